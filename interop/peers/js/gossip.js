// A node that publishes and subscribes as the lines on stdin tell it to.
import { createInterface } from 'node:readline'
import { gossipsub } from '@libp2p/gossipsub'
import { multiaddr } from '@multiformats/multiaddr'
import { STEP_DEADLINE_MS } from './steps.js'

// What the words of --signing mean. The library has no unsigned messages with an author.
export const SIGNINGS = { strict: 'StrictSign', anonymous: 'StrictNoSign' }

const LINE_FEED = 10

// Does what the lines on stdin say, one after the other, until there are no more.
export async function gossip (options, newNode, emit) {
  const node = await newNode(options, [options.addr], {
    pubsub: gossipsub({
      globalSignaturePolicy: SIGNINGS[options.signing],
      // The library's own ids of signed messages are nobody else's.
      ...(options.signing === 'strict' ? { msgIdFn: authorAndNumber } : {}),
      // Otherwise who publishes before it knows of anybody gets an error, which others do not call one.
      allowPublishToZeroTopicPeers: true
    })
  })
  const { pubsub } = node.services
  pubsub.addEventListener('message', ({ detail }) => {
    emit({ event: 'message', topic: detail.topic, ...read(detail.data), author: detail.from?.toString() ?? '' })
  })
  emit({ event: 'listening', peer: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) })

  const run = {
    dial: ({ addr }) => node.dial(multiaddr(addr), { signal: AbortSignal.timeout(STEP_DEADLINE_MS) }).then(() => {}),
    subscribe: ({ topic }) => pubsub.subscribe(topic),
    unsubscribe: ({ topic }) => pubsub.unsubscribe(topic),
    publish: ({ topic, name, bytes }) => pubsub.publish(topic, write(name, bytes)).then(() => {}),
    state: ({ topic }) => ({
      subscribers: pubsub.getSubscribers(topic).map(String),
      mesh: pubsub.getMeshPeers(topic),
      protocols: Object.fromEntries(Array.from(pubsub.streamsOutbound, ([peer, stream]) => [peer, stream.protocol]))
    })
  }
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line)
    const answer = { event: 'answer', do: command.do }
    try {
      if (!Object.hasOwn(run, command.do)) throw new Error(`no such command: ${command.do}`)
      emit({ ...answer, ok: true, ...await run[command.do](command) })
    } catch (err) {
      console.error(err)
      emit({ ...answer, ok: false, error: `${err.name}: ${err.message}` })
    }
  }
  await node.stop()
  return true
}

// The id of a message that has an author: its peer id and its number, eight bytes, as the specification says.
function authorAndNumber ({ from, sequenceNumber }) {
  const number = Buffer.alloc(8)
  number.writeBigUInt64BE(sequenceNumber)
  return Buffer.concat([from.toMultihash().bytes, number])
}

// A message: its name, a line feed, and the pattern.
function write (name, size) {
  const head = Buffer.from(`${name}\n`)
  const pattern = Buffer.alloc(Math.max(0, size - head.length))
  for (let i = 0; i < pattern.length; i++) pattern[i] = (i * 31 + 7) % 251
  return Buffer.concat([head, pattern])
}

// The name of a message, its size, and whether it is as it was written.
function read (bytes) {
  const end = bytes.indexOf(LINE_FEED)
  const name = new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.length : end))
  return { name, bytes: bytes.length, intact: Buffer.compare(bytes, write(name, bytes.length)) === 0 }
}
