// A node over one transport with one security and one muxer.
import { noise } from '@libp2p/noise'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'

const SECURITIES = { 'tcp-noise': noise, 'tcp-tls': tls }

export async function newNode (transport, listen) {
  const security = SECURITIES[transport]
  if (security == null) throw Object.assign(new Error(transport), { name: 'UnsupportedError' })
  return createLibp2p({
    addresses: { listen },
    transports: [tcp({ maxConnections: 10_000 })],
    connectionEncrypters: [security()],
    streamMuxers: [yamux()],
    // The default gater of Node dials loopback, but a measurement must not depend on that.
    connectionGater: { denyDialMultiaddr: () => false },
    connectionManager: { maxConnections: 10_000, maxIncomingPendingConnections: 1000, inboundConnectionThreshold: 100_000 },
    services: { identify: identify(), ping: ping() }
  })
}
