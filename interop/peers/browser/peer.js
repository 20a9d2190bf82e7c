// An interop peer of Peerage on js-libp2p in Chromium: a dialer only. See ../README.md for the command line and the events.
import { createHash, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { parseArgs } from 'node:util'
import { STEPS } from '../js/steps.js'
import { Chromium } from './chromium.js'

// A browser brings its own transports. The rest is what this peer has, so that it takes the words of the others.
const WORDS = {
  transport: ['ws', 'wss', 'webrtc-direct'],
  security: ['noise'],
  muxer: ['yamux'],
  'key-type': ['ed25519']
}
const PAGE = new URL('node_modules/.page.js', import.meta.url)
const HTML = '<!doctype html><meta charset="utf-8"><title>interop peer</title><script src="/page.js"></script>'

async function parse () {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      addr: { type: 'string' },
      steps: { type: 'string', default: STEPS },
      transport: { type: 'string', default: 'ws' },
      security: { type: 'string', default: 'noise' },
      muxer: { type: 'string', default: 'yamux' },
      'key-type': { type: 'string', default: 'ed25519' },
      'tls-ca': { type: 'string' }
    }
  })
  for (const [option, words] of Object.entries(WORDS)) {
    if (!words.includes(values[option])) throw new Error(`--${option} ${values[option]}: a browser has ${words.join(', ')}`)
  }
  const steps = values.steps.split(',')
  if (positionals.join() !== 'dial' || values.addr == null) {
    throw new Error('usage: peer dial --addr <multiaddr> [--steps a,b] [--transport ws|wss|webrtc-direct] [--tls-ca FILE]')
  }
  if (steps[0] !== 'dial') throw new Error('the first step must be dial')
  const ca = values['tls-ca'] == null ? undefined : await readFile(values['tls-ca'])
  return { addr: values.addr, steps, ca }
}

// Chromium takes no authorities on its command line. It can be told to accept one key, wherever in a chain it is.
function trust (ca) {
  if (ca == null) return []
  const key = new X509Certificate(ca).publicKey.export({ type: 'spki', format: 'der' })
  return [`--ignore-certificate-errors-spki-list=${createHash('sha256').update(key).digest('base64')}`]
}

// Loopback is a secure context, without which a page has no cryptography.
async function serve () {
  const page = await readFile(PAGE)
  const server = createServer((request, response) => {
    const [type, body] = { '/': ['text/html', HTML], '/page.js': ['text/javascript', page] }[request.url] ?? []
    response.writeHead(type == null ? 404 : 200, { 'content-type': type ?? 'text/plain' }).end(body)
  })
  await new Promise((resolve, reject) => server.on('error', reject).listen(0, '127.0.0.1', resolve))
  return server
}

async function dial ({ addr, steps, ca }) {
  const server = await serve()
  const chromium = await Chromium.start(trust(ca))
  // The harness holds the other end of stdin: when it goes away, so do we, unless we are about to.
  let done = false
  process.stdin.on('end', () => { if (!done) chromium.fail(new Error('stdin has ended')) }).resume()
  const emit = event => {
    process.stdout.write(event + '\n')
    done ||= JSON.parse(event).event === 'done'
  }
  try {
    await chromium.open(`http://127.0.0.1:${server.address().port}/`, emit)
    return await chromium.evaluate(`dial(${JSON.stringify({ addr, steps })})`)
  } finally {
    await chromium.end()
    server.close()
  }
}

function orExit (code) {
  return err => {
    console.error('peer:', err.message)
    process.exit(code)
  }
}

const options = await parse().catch(orExit(2))
const ok = await dial(options).catch(orExit(1))
process.exit(ok ? 0 : 1)
