// What a dialer does, in Node and in a browser, and what a listener does when it is asked to.
import { perf } from './perf.js'
import { CALLBACK, CHANGE, CHANGED, MANY, PING_BACK, SEEN, ask, echo, many } from './streams.js'

export const STEPS = 'dial,ping,identify,echo-64k,echo-4m,perf,many,callback,ping-back,push,pushed'
export const STEP_DEADLINE_MS = 20_000
const PINGS = 3
const POLL_MS = 10

// The library allows a connection 32 incoming and 64 outgoing streams of one protocol.
export const LIMITS = { maxInboundStreams: 2 * MANY, maxOutboundStreams: 2 * MANY }
// And one ping; but over WebRTC the last may still be ending when the next begins.
export const PING_LIMITS = { maxOutboundStreams: 3 }

// Takes the steps in order with whoever is at the multiaddr, and emits an event after each; whether all went well.
export async function takeSteps (node, addr, steps, emit) {
  // Before dialing, because the event may come before the step that asks for it.
  const identified = new Promise(resolve => {
    node.addEventListener('peer:identify', ({ detail }) => resolve(detail), { once: true })
  })
  let connection
  let allOk = true

  const run = {
    async dial (signal) {
      connection = await node.dial(addr, { signal })
      return { peer: connection.remotePeer.toString() }
    },
    ping: signal => pings(node, connection, signal),
    identify: async signal => identifyFields(await orAborted(identified, signal)),
    'echo-1k': signal => echo(connection, 1 << 10, signal),
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
  return allOk
}

export async function pings (node, connection, signal) {
  const rtts = []
  while (rtts.length < PINGS) {
    rtts.push(await node.services.ping.ping(connection.remotePeer, { signal }))
  }
  return { rtts_ms: rtts }
}

// Makes identify push: from now on we speak one protocol more.
export async function change (node) {
  await node.handle(CHANGED, stream => stream.abort(new Error('this only is to be named')))
}

// Waits until identify has told that the remote speaks one protocol more.
export async function changeOf (node, connection, signal) {
  while (true) {
    const { protocols } = await node.peerStore.get(connection.remotePeer)
    if (protocols.includes(CHANGED)) return
    if (signal.aborted) throw new Error('no push came')
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
}

// Not every promise of the library listens to its signal.
function orAborted (promise, signal) {
  return Promise.race([promise, new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason))
  })])
}

export function identifyFields (found) {
  return {
    peer: found.peerId.toString(),
    agent: found.agentVersion ?? '',
    protocol_version: found.protocolVersion ?? '',
    protocols: found.protocols,
    addrs: found.listenAddrs.map(String),
    observed: found.observedAddr?.toString() ?? ''
  }
}
