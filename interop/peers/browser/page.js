// The part of the peer that runs in the page: a dialer on js-libp2p, with the transports that a browser has.
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { ECHO, serveEcho } from '../js/streams.js'
import { LIMITS, PING_LIMITS, takeSteps } from '../js/steps.js'

// Nobody is asked for addresses of ours, and none is gathered but this machine's.
const WEBRTC = { rtcConfiguration: { iceServers: [] } }

async function newNode () {
  const node = await createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    addresses: { listen: [] },
    transports: [webSockets(), webRTCDirect(WEBRTC)],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // The default gater of browsers dials neither loopback nor addresses without TLS.
    connectionGater: { denyDialMultiaddr: () => false },
    // Its pings collide with those that are asked for, and it ends the connection over that.
    connectionMonitor: { enabled: false },
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping(PING_LIMITS) }
  })
  await node.handle(ECHO, serveEcho, LIMITS)
  return node
}

// Takes the steps; `emit` is a binding to the program that has opened the page.
globalThis.dial = async ({ addr, steps }) => {
  const node = await newNode()
  const ok = await takeSteps(node, multiaddr(addr), steps, event => globalThis.emit(JSON.stringify(event)))
  await node.stop()
  return ok
}
