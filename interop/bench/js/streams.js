// What is served, and how bytes get into a stream and out of it.

export const PERF = '/perf/1.0.0'
export const PING = '/ipfs/ping/1.0.0'
export const REQUEST = '/bench/req/1'
export const PING_SIZE = 32
export const REQUEST_SIZE = 1 + 64

// The library allows few streams of one protocol, unless told otherwise.
export const LIMITS = { maxInboundStreams: 10_000, maxOutboundStreams: 10_000 }

const CHUNK = 64 << 10
const HEAD = 8

// What may arrive while we do not read: a window of js-yamux grows up to this. The default for the buffer is
// 4 MiB, and over that js resets the stream of a peer that kept to its window.
const MAX_WINDOW = 16 << 20
const ZEROS = new Uint8Array(CHUNK)

// Reads how much is wanted, then to the end, and writes as much.
export async function servePerf (stream) {
  try {
    const head = new Uint8Array(HEAD)
    let total = 0
    for await (const bytes of reads(stream)) {
      if (total < HEAD) head.set(bytes.subarray(0, HEAD - total), total)
      total += bytes.byteLength
    }
    let left = Number(new DataView(head.buffer).getBigUint64(0))
    while (left > 0) {
      await write(stream, ZEROS.subarray(0, Math.min(left, CHUNK)))
      left -= CHUNK
    }
    await stream.close()
  } catch (err) {
    stream.abort(err) // the client has seen enough
  }
}

export async function serveRequest (stream) {
  try {
    const request = await collect(stream, REQUEST_SIZE)
    await write(stream, request)
    await stream.close()
  } catch (err) {
    stream.abort(err)
  }
}

// The next `size` bytes, where no more are to come before somebody answers.
export async function collect (stream, size) {
  const parts = []
  let total = 0
  for await (const bytes of reads(stream)) {
    parts.push(bytes)
    total += bytes.byteLength
    if (total >= size) break
  }
  if (total < size) throw new Error(`the stream ended after ${total} of ${size} bytes`)
  return Buffer.concat(parts, total)
}

// Writes the bytes and returns when there is room for more.
export async function write (stream, bytes) {
  if (!stream.send(bytes)) await drained(stream)
}

// The `drain` event, because the promise of the library's `onDrain()` is never renewed after the first one.
function drained (stream) {
  return new Promise((resolve, reject) => {
    const done = event => {
      stream.removeEventListener('drain', done)
      stream.removeEventListener('close', done)
      if (event.type === 'drain') resolve()
      else reject(event.error ?? new Error('the stream closed before all was written'))
    }
    stream.addEventListener('drain', done)
    stream.addEventListener('close', done)
  })
}

export async function * reads (stream) {
  stream.maxReadBufferLength = Math.max(stream.maxReadBufferLength, MAX_WINDOW)
  const queue = []
  let wake = () => {}
  let resuming = false
  let ended = stream.readableEnded
  let failure

  const pause = () => {
    if (isReadable(stream)) stream.pause()
  }
  const resume = () => {
    if (!isReadable(stream)) return
    // It delivers at once what came meanwhile, and opens the window after that: a pause() from within the
    // delivery would be undone.
    resuming = true
    stream.resume()
    resuming = false
    if (queue.length > 0) pause()
  }
  const onMessage = ({ data }) => {
    queue.push(data.subarray())
    if (!resuming) pause()
    wake()
  }
  const onEnd = () => { ended = true; wake() }
  const onClose = ({ error }) => { failure ??= error; ended = true; wake() }

  stream.addEventListener('end', onEnd)
  stream.addEventListener('close', onClose)
  stream.addEventListener('message', onMessage)
  try {
    while (true) {
      if (queue.length > 0) {
        yield queue.shift()
        continue
      }
      resume()
      if (queue.length > 0) continue
      // If all came together with the negotiation of the protocol, the end has been announced before the bytes.
      if (ended && stream.readBufferLength === 0) {
        await new Promise(setImmediate) // of a reset stream, the `close` with the reason follows the `end`
        if (queue.length > 0) continue
        if (failure != null) throw failure
        return
      }
      await new Promise(resolve => { wake = resolve })
    }
  } finally {
    stream.removeEventListener('end', onEnd)
    stream.removeEventListener('close', onClose)
    stream.removeEventListener('message', onMessage)
  }
}

function isReadable (stream) {
  return stream.readStatus === 'readable' || stream.readStatus === 'paused'
}
