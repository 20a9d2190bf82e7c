// Opens the page in Chromium, and chats with a terminal: `test.js PEERAGE [PICTURE]`. PEERAGE is the program; a picture of the
// page at the end is written to PICTURE, as PNG.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { Chromium } from '../../interop/peers/browser/chromium.js'
import { serve } from './serve.js'

const LIMIT_MS = 40_000
const POLL_MS = 50
const LISTEN = process.env.LISTEN ?? '/ip4/127.0.0.1/tcp/0/ws'

const [program, picture] = process.argv.slice(2)
let waitingFor = 'the terminal'
const limit = setTimeout(() => {
  console.error(`not done in time: still waiting for ${waitingFor}`)
  process.exit(1)
}, LIMIT_MS)

// The terminal, line by line, as JSON.
const terminal = spawn(program, ['chat', '--name', 'ada', '--json', '--listen', LISTEN], { stdio: ['pipe', 'pipe', 'inherit'] })
const exited = new Promise(resolve => terminal.on('exit', resolve))
const events = createInterface(terminal.stdout)[Symbol.asyncIterator]()
async function event (kind) {
  waitingFor = `the terminal to say ${kind}`
  while (true) {
    const { value, done } = await events.next()
    if (done) throw new Error(`the terminal has ended before it said ${kind}`)
    const event = JSON.parse(value)
    if (event.event === kind) return event
  }
}

const { url, server } = await serve(0)
const chromium = await Chromium.start()
let ok = false
try {
  const { addrs: [address] } = await event('listening')
  await chromium.open(`${url}#${address}`, () => {})
  await chromium.evaluate(`
    document.getElementById('name').value = 'browser'
    document.getElementById('join').requestSubmit()`)
  assert.equal((await event('joined')).name, 'browser')
  await shown('ada joined')

  const say = text => chromium.evaluate(`
    document.getElementById('text').value = ${JSON.stringify(text)}
    document.getElementById('say').requestSubmit()`)
  await say('Hello from the page.')
  assert.equal((await event('said')).text, 'Hello from the page.')
  terminal.stdin.write('Hello from the terminal!\n')
  await shown('Hello from the terminal!')
  // What strangers write is text, and neither a page nor a line of its own.
  terminal.stdin.write('<img src=x onerror="document.title=1"> & <b>bold</b>\n')
  await shown('<img src=x onerror="document.title=1"> & <b>bold</b>')
  await say('one\ntwo')
  assert.equal((await event('said')).text, 'onetwo')
  await say('And not a server in between.')
  await event('said')
  assert.equal(await chromium.evaluate('document.title'), 'Peerage chat')
  if (picture != null) await writeFile(picture, await chromium.screenshot(820, 760))

  terminal.stdin.end()
  await shown('ada left')
  waitingFor = 'the terminal to end'
  assert.equal(await exited, 0)
  ok = true
} finally {
  terminal.kill()
  await chromium.end()
  server.close()
  clearTimeout(limit)
  console.log(ok ? 'the page and the terminal have chatted' : 'failed')
}

async function shown (text) {
  waitingFor = `the page to show ${text}`
  const seen = () => chromium.evaluate('document.getElementById("lines").innerText + "\\n" + document.getElementById("error").innerText')
  let page
  for (let waited = 0; waited < LIMIT_MS; waited += POLL_MS) {
    page = await seen()
    if (page.includes(text)) return
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`the page does not show ${text}, but ${page}`)
}
