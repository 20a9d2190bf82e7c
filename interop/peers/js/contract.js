// The contract of the official suites, libp2p/unified-testing (upper case) and libp2p/test-plans (lower case): the
// environment says what to do, and both sides meet in a Redis server. See ../README.md.
import { multiaddr } from '@multiformats/multiaddr'
import { PERF, servePerf } from './perf.js'
import { Redis } from './redis.js'

const DEFAULT_TIMEOUT_S = 180
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

async function dial (settings, suite, newNode, redis) {
  if (suite === 'perf') throw new Error('this peer measures nothing as a dialer')
  // Certificates are made for one test, and signed by nobody. Who is there is proven within.
  if (settings.transport === 'wss') process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  const node = await newNode({ ...settings, keyType: 'ed25519' }, [])
  const [, address] = await redis.command('BLPOP', settings.key, '0')
  const started = performance.now()
  const connection = await node.dial(multiaddr(address))
  const rtt = await node.services.ping.ping(connection.remotePeer)
  const handshake = performance.now() - started
  console.log(settings.unified
    ? `latency:\n  handshake_plus_one_rtt: ${handshake}\n  ping_rtt: ${rtt}\n  unit: ms`
    : JSON.stringify({ handshakePlusOneRTTMillis: handshake, pingRTTMilllis: rtt }))
  await node.stop()
  process.exit(0)
}
