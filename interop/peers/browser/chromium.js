// Starts a headless Chromium and opens a page in it, over the DevTools protocol on two pipes: no port, nothing installed.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'

const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome']
const START_MS = 60_000
const END_MS = 5_000
// Of a desktop that is not there, of how Debian starts it, and of how it is ended.
const NOISE = /:ERROR:dbus\/|unexpected operator|Connection terminated while reading from pipe/

const FLAGS = [
  '--headless',
  '--remote-debugging-pipe',
  '--no-sandbox', // there is none for root, and the page is ours
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--no-first-run',
  // Nobody looks at the page; its timers shall be exact all the same.
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
  // Chromium asks for updates, models, lists and accounts on its own. Names other than this machine's stay unknown to it.
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-domain-reliability',
  '--disable-extensions',
  '--disable-quic',
  '--disable-sync',
  // WebRTC goes from loopback to loopback, and tells no network of it by mDNS.
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,DialMediaRouteProvider',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost'
]

export class Chromium {
  static async start (flags = []) {
    const program = findProgram()
    const profile = await mkdtemp(join(tmpdir(), 'interop-chromium-'))
    const stdio = ['ignore', 'ignore', 'pipe', 'pipe', 'pipe']
    const child = spawn(program, [...FLAGS, ...flags, `--user-data-dir=${profile}`, 'about:blank'], { stdio })
    return new Chromium(child, profile)
  }

  constructor (child, profile) {
    this.child = child
    this.profile = profile
    this.calls = new Map()
    this.listeners = new Map()
    this.id = 0
    this.ended = new Promise(resolve => child.on('exit', resolve))
    child.on('error', err => this.fail(err))
    child.on('exit', (code, signal) => this.fail(new Error(`chromium has ended: ${signal ?? code}`)))
    createInterface(child.stderr).on('line', line => { if (!NOISE.test(line)) console.error(line) })
    const [, , , input, output] = child.stdio
    this.input = input
    input.on('error', err => this.fail(err))
    // Each message ends with a zero byte, and arrives in pieces.
    let rest = ''
    output.setEncoding('utf8').on('data', text => {
      const messages = (rest + text).split('\0')
      rest = messages.pop()
      messages.forEach(message => this.take(JSON.parse(message)))
    })
  }

  take ({ id, method, params, result, error }) {
    const call = this.calls.get(id)
    this.calls.delete(id)
    if (error != null) call?.reject(new Error(error.message))
    else if (id != null) call?.resolve(result)
    else this.listeners.get(method)?.(params)
  }

  fail (err) {
    this.failure ??= err
    for (const { reject } of this.calls.values()) reject(this.failure)
    this.calls.clear()
  }

  on (method, listener) {
    this.listeners.set(method, listener)
  }

  call (method, params = {}, sessionId = this.sessionId) {
    if (this.failure != null) return Promise.reject(this.failure)
    const id = ++this.id
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject })
      this.input.write(JSON.stringify({ id, method, params, ...(sessionId != null && { sessionId }) }) + '\0')
    })
  }

  // Opens a page, in which the function `emit` calls `onEmit`, and waits until it is loaded.
  async open (url, onEmit) {
    const started = setTimeout(() => this.fail(new Error('chromium does not start in time')), START_MS)
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true })
    this.sessionId = sessionId
    this.on('Runtime.bindingCalled', ({ payload }) => onEmit(payload))
    this.on('Runtime.consoleAPICalled', ({ args }) => console.error('page:', ...args.map(text)))
    this.on('Runtime.exceptionThrown', ({ exceptionDetails }) => console.error('page:', text(exceptionDetails.exception ?? {})))
    await this.call('Runtime.enable')
    await this.call('Runtime.addBinding', { name: 'emit' })
    await this.call('Page.enable')
    const loaded = new Promise(resolve => this.on('Page.loadEventFired', resolve))
    const { errorText } = await this.call('Page.navigate', { url })
    if (errorText) throw new Error(`${url}: ${errorText}`)
    await loaded
    clearTimeout(started)
  }

  // What the expression comes to, once its promise is fulfilled.
  async evaluate (expression) {
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })
    if (exceptionDetails != null) throw new Error(text(exceptionDetails.exception ?? exceptionDetails))
    return result.value
  }

  // A picture of the page, as PNG.
  async screenshot (width, height) {
    await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 2, mobile: false })
    const { data } = await this.call('Page.captureScreenshot', { format: 'png' })
    return Buffer.from(data, 'base64')
  }

  async end () {
    if (this.failure == null) await Promise.race([this.call('Browser.close', {}, null).catch(() => {}), after(END_MS)])
    this.input.end() // without its pipes it ends by itself
    await Promise.race([this.ended, after(END_MS)])
    this.child.kill('SIGKILL')
    await this.ended
    await rm(this.profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }
}

function findProgram () {
  const dirs = (process.env.PATH ?? '').split(delimiter)
  for (const name of PROGRAMS) {
    const found = dirs.map(dir => join(dir, name)).find(existsSync)
    if (found != null) return found
  }
  throw new Error(`no Chromium: there is none of ${PROGRAMS.join(', ')}`)
}

function text ({ value, description, text }) {
  return description ?? value ?? text ?? ''
}

function after (ms) {
  return new Promise(resolve => setTimeout(resolve, ms).unref())
}
