// An interop peer of Peerage on js-libp2p. See ../README.md for the command line and the events.
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { mplex } from '@libp2p/mplex'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { PERF, perf, servePerf } from './perf.js'
import { CALLBACK, CALLBACK_BYTES, CHANGE, CHANGED, ECHO, MANY, PING_BACK, SEEN, ask, echo, many, serveAsk, serveEcho } from './streams.js'
import { TRANSPORTS } from './transports.js'

const STEP_DEADLINE_MS = 20_000
const PINGS = 3

const STEPS = 'dial,ping,identify,echo-64k,echo-4m,perf,many,callback,ping-back,push,pushed'

// What the words of the command line mean. The library makes no peer id of an ECDSA key.
const SECURITIES = { noise: () => noise(), tls: () => tls() }
const MUXERS = { yamux: () => yamux(), mplex: () => mplex() }
const KEY_TYPES = { ed25519: 'Ed25519', secp256k1: 'secp256k1', rsa: 'RSA' }

// The library allows a connection 32 incoming and 64 outgoing streams of one protocol.
const LIMITS = { maxInboundStreams: 2 * MANY, maxOutboundStreams: 2 * MANY }

const USAGE = 'usage: peer listen|dial --addr <multiaddr> [--steps a,b] ' +
  '[--transport tcp|ws|wss|quic-v1|webrtc-direct] [--tls-cert FILE --tls-key FILE] [--tls-ca FILE] ' +
  '[--security noise|tls] [--muxer yamux|mplex] [--key-type ed25519|secp256k1|rsa]'

async function parse () {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      addr: { type: 'string' },
      steps: { type: 'string', default: STEPS },
      transport: { type: 'string', default: 'tcp' },
      'tls-cert': { type: 'string' },
      'tls-key': { type: 'string' },
      'tls-ca': { type: 'string' },
      security: { type: 'string', default: 'noise' },
      muxer: { type: 'string', default: 'yamux' },
      'key-type': { type: 'string', default: 'ed25519' }
    }
  })
  const [mode, ...rest] = positionals
  const steps = values.steps.split(',')
  if (rest.length > 0 || !['listen', 'dial'].includes(mode)) throw new Error(USAGE)
  const { transport, security, muxer, 'key-type': keyType } = values
  if (!Object.hasOwn(TRANSPORTS, transport)) throw new Error(`no such transport: ${transport}`)
  if (!Object.hasOwn(SECURITIES, security)) throw new Error(`no such security: ${security}`)
  if (!Object.hasOwn(MUXERS, muxer)) throw new Error(`no such muxer: ${muxer}`)
  if (!Object.hasOwn(KEY_TYPES, keyType)) throw new Error(`no such type of key: ${keyType}`)
  if (mode === 'dial' && steps[0] !== 'dial') throw new Error('the first step must be dial')
  const { 'tls-cert': tlsCert, 'tls-key': tlsKey, 'tls-ca': tlsCa } = values
  const addr = values.addr ?? TRANSPORTS[transport].listen
  return { mode, steps, addr, transport, tlsCert, tlsKey, tlsCa, security, muxer, keyType }
}

async function newNode (options, listen) {
  const { transport, security, muxer, keyType } = options
  const node = await createLibp2p({
    privateKey: await generateKeyPair(KEY_TYPES[keyType]),
    addresses: { listen },
    transports: [await TRANSPORTS[transport].make(options)],
    connectionEncrypters: [SECURITIES[security]()],
    streamMuxers: [MUXERS[muxer]()],
    // The default gater of Node dials loopback, but a test must not depend on that.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping() }
  })
  await node.handle(ECHO, serveEcho, LIMITS)
  return node
}

async function listen (options) {
  const node = await newNode(options, [options.addr])
  const serve = {
    [CALLBACK]: (connection, signal) => echo(connection, CALLBACK_BYTES, signal),
    [PING_BACK]: (connection, signal) => pings(node, connection, signal),
    [SEEN]: (connection, signal) => changeOf(node, connection, signal),
    [CHANGE]: () => change(node)
  }
  for (const [protocol, doing] of Object.entries(serve)) {
    await node.handle(protocol, serveAsk(doing, STEP_DEADLINE_MS))
  }
  await node.handle(PERF, servePerf)
  node.addEventListener('peer:identify', ({ detail }) => {
    emit({ event: 'identified', ...identifyFields(detail) })
  })
  emit({ event: 'listening', peer: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) })

  // The harness holds the other end of stdin: when it goes away, so do we.
  for await (const _ of process.stdin) { /* nothing is expected here */ }
  await node.stop()
  return true
}

async function dial (options) {
  const { addr, steps } = options
  const node = await newNode(options, [])
  // Before dialing, because the event may come before the step that asks for it.
  const identified = new Promise(resolve => {
    node.addEventListener('peer:identify', ({ detail }) => resolve(detail), { once: true })
  })
  let connection
  let allOk = true

  const run = {
    async dial (signal) {
      connection = await node.dial(multiaddr(addr), { signal })
      return { peer: connection.remotePeer.toString() }
    },
    ping: signal => pings(node, connection, signal),
    identify: async signal => identifyFields(await orAborted(identified, signal)),
    'echo-64k': signal => echo(connection, 64 << 10, signal),
    'echo-4m': signal => echo(connection, 4 << 20, signal),
    perf: signal => perf(connection, signal),
    many: signal => many(connection, LIMITS, signal),
    callback: signal => ask(connection, CALLBACK, signal),
    'ping-back': signal => ask(connection, PING_BACK, signal),
    async push (signal) {
      await change(node)
      await ask(connection, SEEN, signal)
    },
    async pushed (signal) {
      await ask(connection, CHANGE, signal)
      await changeOf(node, connection, signal)
    }
  }

  for (const step of steps) {
    const started = performance.now()
    let outcome
    try {
      if (!Object.hasOwn(run, step)) throw new Error(`no such step: ${step}`)
      const signal = AbortSignal.timeout(STEP_DEADLINE_MS)
      outcome = { ok: true, ...await orAborted(run[step](signal), signal) }
    } catch (err) {
      console.error(err)
      outcome = { ok: false, error: `${err.name}: ${err.message}` }
      allOk = false
    }
    const ms = Math.round((performance.now() - started) * 1000) / 1000
    emit({ event: 'step', step, ms, ...outcome })
    if (connection == null) break // nothing works without one
  }
  emit({ event: 'done', ok: allOk })
  await node.stop()
  return allOk
}

async function pings (node, connection, signal) {
  const rtts = []
  while (rtts.length < PINGS) {
    rtts.push(await node.services.ping.ping(connection.remotePeer, { signal }))
  }
  return { rtts_ms: rtts }
}

// Makes identify push: from now on we speak one protocol more.
async function change (node) {
  await node.handle(CHANGED, stream => stream.abort(new Error('this only is to be named')))
}

// Waits until identify has told that the remote speaks one protocol more.
async function changeOf (node, connection, signal) {
  while (true) {
    const { protocols } = await node.peerStore.get(connection.remotePeer)
    if (protocols.includes(CHANGED)) return
    if (signal.aborted) throw new Error('no push came')
    await setTimeout(10)
  }
}

// Not every promise of the library listens to its signal.
function orAborted (promise, signal) {
  return Promise.race([promise, new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason))
  })])
}

function identifyFields (found) {
  return {
    peer: found.peerId.toString(),
    agent: found.agentVersion ?? '',
    protocol_version: found.protocolVersion ?? '',
    protocols: found.protocols,
    addrs: found.listenAddrs.map(String),
    observed: found.observedAddr?.toString() ?? ''
  }
}

function emit (event) {
  process.stdout.write(JSON.stringify(event) + '\n')
}

function orExit (code) {
  return err => {
    console.error('peer:', err.message)
    process.exit(code)
  }
}

const options = await parse().catch(orExit(2))
const ok = await (options.mode === 'listen' ? listen : dial)(options).catch(orExit(1))
process.exit(ok ? 0 : 1)
