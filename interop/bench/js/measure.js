// How each measure is taken, by the client.
import { setTimeout } from 'node:timers/promises'
import { multiaddr } from '@multiformats/multiaddr'
import { newNode } from './node.js'
import { LIMITS, PERF, PING, PING_SIZE, REQUEST, REQUEST_SIZE, collect, reads, write } from './streams.js'

const WARM_UP_MS = 200 // before anything counts, at most
const STUCK_MS = 30_000 // what is later hangs
const SETTLE_MS = 2000 // before memory is looked at
const ENDLESS = 1n << 44n // a download that ends by time
const NODES = 32
const REQUESTS = 64
const FIRST_IDLE = 16

// Takes a measure, and says what it is. What is held idle is held until this process ends.
export async function measure (options, say) {
  const connected = async () => connect(await newNode(options.transport, []), options)
  const taken = {
    up: async () => transfer(await connected(), options, say, upload),
    down: async () => transfer(await connected(), options, say, download),
    ping: async () => pings(await connected(), options, say),
    connect: () => connections(options, say, 1, true),
    'connect-32': () => connections(options, say, NODES, false),
    'first-contact': () => firstContact(options, say),
    requests: async () => requests(await connected(), options, say, 1),
    'requests-64': async () => requests(await connected(), options, say, REQUESTS),
    idle: () => idle(options, say)
  }
  if (!Object.hasOwn(taken, options.measure)) throw new Error(`no such measure: ${options.measure}`)
  await taken[options.measure]()
}

function connect (node, { address }) {
  return node.dial(multiaddr(address), { signal: AbortSignal.timeout(STUCK_MS) })
}

const seconds = since => (performance.now() - since) / 1000

async function transfer (connection, options, say, way) {
  await way(connection, options, Math.min(WARM_UP_MS, options.ms))
  say({ event: 'begin' })
  say({ event: 'result', result: await way(connection, options, options.ms) })
}

function head (wanted) {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, wanted)
  return bytes
}

// Sends for so long, and until the listener has read everything.
async function upload (connection, { write: size }, ms) {
  const began = performance.now()
  const stream = await connection.newStream(PERF)
  await write(stream, head(1n))
  const chunk = new Uint8Array(size)
  let bytes = 0
  while (performance.now() - began < ms) {
    await write(stream, chunk)
    bytes += size
  }
  await stream.close() // closes our half only
  await collect(stream, 1)
  return { bytes, seconds: seconds(began) }
}

// Reads for so long, and then leaves the rest.
async function download (connection, options, ms) {
  const began = performance.now()
  const stream = await connection.newStream(PERF)
  await write(stream, head(ENDLESS))
  await stream.close()
  let bytes = 0
  for await (const part of reads(stream)) {
    bytes += part.byteLength
    if (performance.now() - began >= ms) break
  }
  const result = { bytes, seconds: seconds(began) }
  stream.abort(new Error('that is enough'))
  return result
}

// A stream that pings go over, one after another.
async function pinger (connection) {
  const stream = await connection.newStream(PING)
  const parts = reads(stream)
  const ping = new Uint8Array(PING_SIZE)
  return async () => {
    const began = performance.now()
    await write(stream, ping)
    let size = 0
    while (size < PING_SIZE) {
      const { value, done } = await parts.next()
      if (done) throw new Error('the ping stream ended')
      size += value.byteLength
    }
    return performance.now() - began
  }
}

async function pings (connection, { ms }, say) {
  const ping = await pinger(connection)
  for (const warm = performance.now(); performance.now() - warm < Math.min(WARM_UP_MS, ms);) await ping()
  say({ event: 'begin' })
  const times = []
  const began = performance.now()
  while (performance.now() - began < ms) times.push(await ping())
  say({ event: 'result', result: operations(times, began) })
}

async function connections (options, say, count, withPing) {
  const nodes = []
  for (let i = 0; i < count; i++) {
    nodes.push(await newNode(options.transport, []))
    await connection(nodes[i], options, withPing)
  }
  say({ event: 'begin' })
  const began = performance.now()
  const times = await Promise.all(nodes.map(async node => {
    const times = []
    while (performance.now() - began < options.ms) times.push(await connection(node, options, withPing))
    return times
  }))
  say({ event: 'result', result: operations(times.flat(), began) })
}

// By nodes that have never heard of the listener.
async function firstContact (options, say) {
  const contact = async () => {
    const node = await newNode(options.transport, [])
    const took = await connection(node, options, true)
    await node.stop()
    return took
  }
  await contact()
  say({ event: 'begin' })
  const times = []
  const began = performance.now()
  while (performance.now() - began < options.ms) times.push(await contact())
  say({ event: 'result', result: operations(times, began) })
}

// Dials and closes. What it took does not count the close, but how many there are in a second does.
async function connection (node, options, withPing) {
  const began = performance.now()
  const connection = await connect(node, options)
  if (withPing) await (await pinger(connection))()
  const took = performance.now() - began
  await connection.close()
  return took
}

async function requests (connection, { ms }, say, atOnce) {
  const ask = async ms => {
    const began = performance.now()
    const one = async () => {
      const times = []
      while (performance.now() - began < ms) times.push(await request(connection))
      return times
    }
    return (await Promise.all(Array.from({ length: atOnce }, one))).flat()
  }
  await ask(Math.min(WARM_UP_MS, ms))
  say({ event: 'begin' })
  const began = performance.now()
  say({ event: 'result', result: operations(await ask(ms), began) })
}

async function request (connection) {
  const began = performance.now()
  const stream = await connection.newStream(REQUEST, LIMITS)
  const request = new Uint8Array(REQUEST_SIZE).fill(REQUEST_SIZE - 1)
  await write(stream, request)
  await stream.close() // closes our half only
  await collect(stream, REQUEST_SIZE)
  return performance.now() - began
}

async function idle (options, say) {
  const held = []
  const hold = async count => {
    for (let i = 0; i < count; i++) {
      const node = await newNode(options.transport, [])
      await connect(node, options)
      held.push(node)
    }
  }
  await hold(FIRST_IDLE)
  await setTimeout(SETTLE_MS)
  say({ event: 'begin' })
  const began = performance.now()
  await hold(options.connections)
  await setTimeout(SETTLE_MS)
  say({ event: 'result', result: { connections: options.connections, seconds: seconds(began) } })
}

function operations (times, began) {
  const took = seconds(began)
  times.sort((a, b) => a - b)
  const quantile = percent => 1000 * (times[Math.ceil(times.length * percent / 100) - 1] ?? 0)
  return { operations: times.length, seconds: took, p50_us: quantile(50), p99_us: quantile(99) }
}
