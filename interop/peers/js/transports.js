// The transports: how each is made, and where it listens unless told otherwise.
import { readFile } from 'node:fs/promises'
import { setDefaultCACertificates } from 'node:tls'
import { quic } from '@chainsafe/libp2p-quic'
import { tcp } from '@libp2p/tcp'
import { webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'

// Nobody is asked for addresses of ours.
const WEBRTC = { rtcConfiguration: { iceServers: [] } }

export const TRANSPORTS = {
  tcp: { listen: '/ip4/127.0.0.1/tcp/0', make: () => tcp() },
  ws: { listen: '/ip4/127.0.0.1/tcp/0/ws', make: () => webSockets() },
  wss: { listen: '/ip4/127.0.0.1/tcp/0/tls/ws', make: wss },
  'quic-v1': { listen: '/ip4/127.0.0.1/udp/0/quic-v1', make: () => quic() },
  'webrtc-direct': { listen: '/ip4/127.0.0.1/udp/0/webrtc-direct', make: () => webRTCDirect({ rtcConfiguration: { iceServers: [] } }) }
}

// A listener shows the certificate it was given; a dialer trusts nobody but the authority it was given. The library
// dials with the WebSocket of Node, which has no options for that.
async function wss ({ tlsCert, tlsKey, tlsCa }) {
  if (tlsCa != null) setDefaultCACertificates([await readFile(tlsCa, 'utf8')])
  if (tlsCert == null) return webSockets()
  return webSockets({ https: { cert: await readFile(tlsCert), key: await readFile(tlsKey) } })
}
