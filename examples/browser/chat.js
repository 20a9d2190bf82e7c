// The chat of `peerage chat` in a browser. Each participant opens a stream of `/peerage/chat/1` to each other one, says who
// it is up to an empty line, and then a line for everything it says.
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const PROTOCOL = '/peerage/chat/1'
const MAX_LINE = 4096
const MAX_GREETING_LINES = 148
const MAX_NAME = 24
const MAX_PARTICIPANTS = 32
// What a browser can dial.
const DIALABLE = /\/(ws|wss|webrtc-direct)\b/

// Joins whoever is at `address`. `show` is told who joins and leaves, and what is said.
export async function join ({ address, name, show }) {
  const node = await createLibp2p({
    privateKey: await generateKeyPair('Ed25519'),
    transports: [webSockets(), webRTCDirect({ rtcConfiguration: { iceServers: [] } })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // By default, pages do not dial this machine.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), ping: ping() }
  })
  const room = new Room(node, name, show)
  await node.handle(PROTOCOL, (stream, connection) => room.hear(stream, connection))
  try {
    await room.reach(multiaddr(address))
  } catch (err) {
    await node.stop()
    throw err
  }
  return room
}

class Room {
  constructor (node, name, show) {
    this.node = node
    this.name = tidyName(name) || node.peerId.toString().slice(-6)
    this.show = show
    // Whom we speak to, and how those are called who speak to us.
    this.ways = new Map()
    this.names = new Map()
  }

  // Connects with somebody, and speaks to them.
  async reach (address) {
    const connection = await this.node.dial(address, { signal: AbortSignal.timeout(15_000) })
    await this.speak(connection)
  }

  async speak (connection) {
    const peer = connection.remotePeer.toString()
    if (this.ways.has(peer) || this.ways.size === MAX_PARTICIPANTS) return
    this.ways.set(peer, null) // only once, however many ask meanwhile
    try {
      const stream = await connection.newStream(PROTOCOL)
      stream.addEventListener('close', () => this.lost(peer))
      this.ways.set(peer, stream)
      send(stream, `name ${this.name}\n\n`)
    } catch (err) {
      this.ways.delete(peer)
      throw err
    }
  }

  // Says a line to everybody.
  say (text) {
    const line = tidy(text)
    if (line === '') return
    for (const stream of this.ways.values()) {
      if (stream?.status === 'open') send(stream, line + '\n')
    }
    this.show.said(this.name, line, true)
  }

  // Listens to somebody until they leave.
  async hear (stream, connection) {
    const peer = connection.remotePeer.toString()
    try {
      const lines = linesOf(stream)
      const { name, others } = await greeting(lines)
      if (this.names.has(peer) || this.names.size === MAX_PARTICIPANTS) throw new Error('there already')
      this.names.set(peer, name || peer.slice(-6))
      this.show.joined(this.names.get(peer))
      this.speak(connection).catch(err => this.show.failed(err))
      // Everybody speaks to everybody: an introduction that fails is only shown.
      for (const other of others) this.meet(other)
      for await (const line of lines) {
        const text = tidy(line)
        if (text !== '') this.show.said(this.names.get(peer), text, false)
      }
      this.lost(peer)
      await stream.close() // tells that all of it was read
    } catch (err) {
      stream.abort(err)
      this.lost(peer)
    }
  }

  meet (address) {
    if (!DIALABLE.test(address)) return
    this.reach(multiaddr(address)).catch(err => this.show.failed(err))
  }

  lost (peer) {
    this.ways.delete(peer)
    const name = this.names.get(peer)
    if (this.names.delete(peer)) this.show.left(name, this.names.size)
  }

  async leave () {
    for (const stream of this.ways.values()) await stream?.close().catch(() => {})
    await this.node.stop()
  }
}

// Who somebody is, and where they reach others. What is not understood is left out: a later version may say more.
async function greeting (lines) {
  let name = ''
  const others = []
  for (let read = 0; read < MAX_GREETING_LINES; read++) {
    const { value: line, done } = await lines.next()
    if (done) throw new Error('left without a word')
    if (line === '') return { name, others }
    const [word, ...rest] = line.split(' ')
    if (word === 'name') name = tidyName(rest.join(' '))
    if (word === 'peer' && others.length < MAX_PARTICIPANTS) others.push(rest.join(' '))
  }
  throw new Error('a greeting without an end')
}

async function * linesOf (stream) {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let rest = ''
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes.subarray(), { stream: true })).split('\n')
    rest = lines.pop()
    if ([rest, ...lines].some(line => line.length > MAX_LINE)) throw new Error('a line that is too long')
    yield * lines
  }
}

function send (stream, text) {
  stream.send(new TextEncoder().encode(text))
}

// A line that fits, without what could break it or pretend to be something else.
function tidy (text) {
  const clean = text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, ' ').trim()
  let line = clean
  while (new TextEncoder().encode(line).length > MAX_LINE) line = line.slice(0, -1)
  return line
}

function tidyName (text) {
  return [...text].filter(c => /[\p{L}\p{N}\-_.]/u.test(c)).slice(0, MAX_NAME).join('')
}
