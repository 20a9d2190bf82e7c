// An interop peer of Peerage on js-libp2p. See ../README.md for the command line and the events.
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
import { contract } from './contract.js'
import { SIGNINGS, gossip } from './gossip.js'
import { PERF, servePerf } from './perf.js'
import { LIMITS, PING_LIMITS, STEPS, STEP_DEADLINE_MS, change, changeOf, identifyFields, pings, takeSteps } from './steps.js'
import { CALLBACK, CALLBACK_BYTES, CHANGE, ECHO, PING_BACK, SEEN, echo, serveAsk, serveEcho } from './streams.js'
import { TRANSPORTS } from './transports.js'

// What the words of the command line mean. The library makes no peer id of an ECDSA key.
const SECURITIES = { noise: () => noise(), tls: () => tls() }
const MUXERS = { yamux: () => yamux(), mplex: () => mplex() }
const KEY_TYPES = { ed25519: 'Ed25519', secp256k1: 'secp256k1', rsa: 'RSA' }

const USAGE = 'usage: peer listen|dial|gossip --addr <multiaddr> [--steps a,b] ' +
  '[--transport tcp|ws|wss|quic-v1|webrtc-direct] [--tls-cert FILE --tls-key FILE] [--tls-ca FILE] ' +
  '[--security noise|tls] [--muxer yamux|mplex] [--key-type ed25519|secp256k1|rsa] ' +
  '[--signing strict|anonymous]'

async function parse () {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      addr: { type: 'string' },
      steps: { type: 'string', default: STEPS },
      suite: { type: 'string', default: 'transport' },
      transport: { type: 'string', default: 'tcp' },
      'tls-cert': { type: 'string' },
      'tls-key': { type: 'string' },
      'tls-ca': { type: 'string' },
      security: { type: 'string', default: 'noise' },
      muxer: { type: 'string', default: 'yamux' },
      'key-type': { type: 'string', default: 'ed25519' },
      signing: { type: 'string', default: 'strict' }
    }
  })
  const [mode, ...rest] = positionals
  const steps = values.steps.split(',')
  if (rest.length > 0 || !['listen', 'dial', 'gossip', 'contract'].includes(mode)) throw new Error(USAGE)
  const { transport, security, muxer, 'key-type': keyType, signing } = values
  if (!Object.hasOwn(TRANSPORTS, transport)) throw new Error(`no such transport: ${transport}`)
  if (!Object.hasOwn(SECURITIES, security)) throw new Error(`no such security: ${security}`)
  if (!Object.hasOwn(MUXERS, muxer)) throw new Error(`no such muxer: ${muxer}`)
  if (!Object.hasOwn(KEY_TYPES, keyType)) throw new Error(`no such type of key: ${keyType}`)
  if (!Object.hasOwn(SIGNINGS, signing)) throw new Error(`no such signing: ${signing}`)
  if (mode === 'dial' && steps[0] !== 'dial') throw new Error('the first step must be dial')
  const { 'tls-cert': tlsCert, 'tls-key': tlsKey, 'tls-ca': tlsCa } = values
  const addr = values.addr ?? TRANSPORTS[transport].listen
  return { mode, suite: values.suite, steps, addr, transport, tlsCert, tlsKey, tlsCa, security, muxer, keyType, signing }
}

async function newNode (options, listen, services = {}) {
  const { transport, security, muxer, keyType } = options
  const node = await createLibp2p({
    privateKey: await generateKeyPair(KEY_TYPES[keyType]),
    addresses: { listen },
    transports: [await TRANSPORTS[transport].make(options)],
    connectionEncrypters: [SECURITIES[security]()],
    streamMuxers: [MUXERS[muxer]()],
    // The default gater of Node dials loopback, but a test must not depend on that.
    connectionGater: { denyDialMultiaddr: () => false },
    // Its pings collide with those that are asked for, and it ends the connection over that.
    connectionMonitor: { enabled: false },
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping(PING_LIMITS), ...services }
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
  const node = await newNode(options, [])
  const allOk = await takeSteps(node, multiaddr(options.addr), options.steps, emit)
  await node.stop()
  return allOk
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
if (options.mode === 'contract') {
  await contract(options.suite, newNode).catch(orExit(1))
} else {
  const modes = { listen, dial, gossip: options => gossip(options, newNode, emit) }
  const ok = await modes[options.mode](options).catch(orExit(1))
  process.exit(ok ? 0 : 1)
}
