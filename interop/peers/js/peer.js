// An interop peer of Peerage on js-libp2p. See ../README.md for the command line and the events.
import './node20.js'
import { parseArgs } from 'node:util'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CALLBACK, ECHO, callback, echo, serveCallback, serveEcho } from './streams.js'

const STEP_DEADLINE_MS = 20_000
const PINGS = 3

const USAGE = 'usage: peer listen|dial --addr <multiaddr> [--steps a,b] [--security noise] [--muxer yamux]'

async function parse () {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      addr: { type: 'string', default: '/ip4/127.0.0.1/tcp/0' },
      steps: { type: 'string', default: 'dial,ping,identify,echo-64k,echo-4m,callback' },
      security: { type: 'string', default: 'noise' },
      muxer: { type: 'string', default: 'yamux' }
    }
  })
  const [mode, ...rest] = positionals
  const steps = values.steps.split(',')
  if (rest.length > 0 || !['listen', 'dial'].includes(mode)) throw new Error(USAGE)
  if (values.security !== 'noise') throw new Error(`no such security: ${values.security}`)
  if (values.muxer !== 'yamux') throw new Error(`no such muxer: ${values.muxer}`)
  if (mode === 'dial' && steps[0] !== 'dial') throw new Error('the first step must be dial')
  return { mode, steps, addr: values.addr }
}

async function newNode (listen) {
  const node = await createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // The default gater of Node dials loopback, but a test must not depend on that.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), ping: ping() }
  })
  await node.handle(ECHO, serveEcho)
  return node
}

async function listen ({ addr }) {
  const node = await newNode([addr])
  await node.handle(CALLBACK, serveCallback(STEP_DEADLINE_MS))
  node.addEventListener('peer:identify', ({ detail }) => {
    emit({ event: 'identified', ...identifyFields(detail) })
  })
  emit({ event: 'listening', peer: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) })

  // The harness holds the other end of stdin: when it goes away, so do we.
  for await (const _ of process.stdin) { /* nothing is expected here */ }
  await node.stop()
  return true
}

async function dial ({ addr, steps }) {
  const node = await newNode([])
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
    async ping (signal) {
      const rtts = []
      while (rtts.length < PINGS) {
        rtts.push(await node.services.ping.ping(connection.remotePeer, { signal }))
      }
      return { rtts_ms: rtts }
    },
    identify: async signal => identifyFields(await orAborted(identified, signal)),
    'echo-64k': signal => echo(connection, 64 << 10, signal),
    'echo-4m': signal => echo(connection, 4 << 20, signal),
    callback: signal => callback(connection, signal)
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
