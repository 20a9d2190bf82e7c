// The contract of the official suites, libp2p/unified-testing (upper case) and libp2p/test-plans (lower case): the
// environment says what to do, and both sides meet in a Redis server. See ../README.md.
import { setTimeout as delay } from 'node:timers/promises'
import { multiaddr } from '@multiformats/multiaddr'
import { PERF, measure, servePerf } from './perf.js'
import { Redis } from './redis.js'

const DEFAULT_TIMEOUT_S = 180
const ITERATION_MS = 60_000
const POLL_MS = 100
const LISTEN = { tcp: 'tcp/0', ws: 'tcp/0/ws', 'quic-v1': 'udp/0/quic-v1', 'webrtc-direct': 'udp/0/webrtc-direct' }

export async function contract (suite, newNode) {
  const settings = read(process.env)
  const seconds = Number(settings.timeout ?? DEFAULT_TIMEOUT_S)
  setTimeout(() => {
    console.error(`peer: not done within ${seconds} s`)
    process.exit(1)
  }, seconds * 1000)
  const redis = await Redis.connect(settings.redis)
  await (settings.isDialer ? dial : listen)(settings, suite, newNode, redis)
}

function read (env) {
  const unified = env.TRANSPORT != null
  const of = (name, old) => unified ? env[name] : env[old]
  return {
    unified,
    isDialer: of('IS_DIALER', 'is_dialer') === 'true',
    redis: of('REDIS_ADDR', 'redis_addr') ?? 'redis:6379',
    key: unified ? `${env.TEST_KEY}_listener_multiaddr` : 'listenerAddr',
    transport: of('TRANSPORT', 'transport'),
    security: of('SECURE_CHANNEL', 'security') ?? 'noise',
    muxer: of('MUXER', 'muxer') ?? 'yamux',
    ip: of('LISTENER_IP', 'ip') ?? '0.0.0.0',
    timeout: of('TEST_TIMEOUT_SECS', 'test_timeout_seconds')
  }
}

// Runs until it is killed: who ends first, ends the test.
async function listen (settings, suite, newNode, redis) {
  const { transport, ip, key } = settings
  if (!Object.hasOwn(LISTEN, transport)) throw new Error(`nothing here listens on ${transport}`)
  const node = await newNode({ ...settings, keyType: 'ed25519' }, [`/ip4/${ip}/${LISTEN[transport]}`])
  await node.handle(PERF, servePerf)
  const addresses = node.getMultiaddrs().map(String)
  const loopback = address => address.startsWith('/ip4/127.')
  const address = addresses.find(address => loopback(`/ip4/${ip}`) || !loopback(address))
  await redis.command('DEL', key)
  await redis.command(suite === 'perf' ? 'SET' : 'RPUSH', key, address)
}

// Of the perf suite it is a string, of the other one a list.
async function published (suite, key, redis) {
  if (suite !== 'perf') return (await redis.command('BLPOP', key, '0'))[1]
  for (;;) {
    const address = await redis.command('GET', key)
    if (address != null) return address
    await delay(POLL_MS)
  }
}

async function dial (settings, suite, newNode, redis) {
  // Certificates are made for one test, and signed by nobody. Who is there is proven within.
  if (settings.transport === 'wss') process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  const node = await newNode({ ...settings, keyType: 'ed25519' }, [])
  const address = await published(suite, settings.key, redis)
  const started = performance.now()
  const connection = await node.dial(multiaddr(address))
  if (suite === 'perf') {
    console.log(await measurements(connection, process.env))
  } else {
    const rtt = await node.services.ping.ping(connection.remotePeer)
    const handshake = performance.now() - started
    console.log(settings.unified
      ? `latency:\n  handshake_plus_one_rtt: ${handshake}\n  ping_rtt: ${rtt}\n  unit: ms`
      : JSON.stringify({ handshakePlusOneRTTMillis: handshake, pingRTTMilllis: rtt }))
  }
  await node.stop()
  process.exit(0)
}

// One after the other, as the environment says how much and how often.
async function measurements (connection, env) {
  const [upload, download] = [Number(env.UPLOAD_BYTES), Number(env.DOWNLOAD_BYTES)]
  const gbps = bytes => ms => bytes * 8 / 1e6 / ms
  const maps = [
    ['upload', upload, 0, env.UPLOAD_ITERATIONS, gbps(upload), 'Gbps'],
    ['download', 0, download, env.DOWNLOAD_ITERATIONS, gbps(download), 'Gbps'],
    ['latency', 1, 1, env.LATENCY_ITERATIONS, ms => ms, 'ms']
  ]
  const texts = []
  for (const [name, up, down, iterations, value, unit] of maps) {
    const samples = []
    for (let left = Number(iterations); left > 0; left--) {
      const took = await measure(connection, up, down, AbortSignal.timeout(ITERATION_MS))
      samples.push(value(took.up + took.down))
    }
    texts.push(summary(name, samples, unit))
  }
  return texts.join('\n')
}

// Outliers are more than one and a half times the middle half away from it; they are in no other number.
function summary (name, samples, unit) {
  samples.sort((a, b) => a - b)
  const quantile = part => {
    const place = part * (samples.length - 1)
    const [below, above] = [samples[Math.floor(place)], samples[Math.ceil(place)]]
    return below + (above - below) * (place % 1)
  }
  const [q1, median, q3] = [0.25, 0.5, 0.75].map(quantile)
  const inside = sample => sample >= q1 - 1.5 * (q3 - q1) && sample <= q3 + 1.5 * (q3 - q1)
  const kept = samples.filter(inside)
  const numbers = { iterations: samples.length, min: kept[0], q1, median, q3, max: kept.at(-1) }
  const lines = Object.entries(numbers).map(([key, number]) => `  ${key}: ${number}`)
  const list = of => `[${of.join(', ')}]`
  const outliers = samples.filter(sample => !inside(sample))
  return [`${name}:`, ...lines, `  outliers: ${list(outliers)}`, `  samples: ${list(samples)}`, `  unit: ${unit}`].join('\n')
}
