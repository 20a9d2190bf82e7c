// What the protocols of the suite do with a stream.

export const ECHO = '/peerage/echo/1'
export const CALLBACK = '/peerage/callback/1'
export const PING_BACK = '/peerage/ping-back/1'
export const CHANGE = '/peerage/change/1'
export const CHANGED = '/peerage/changed/1'
export const SEEN = '/peerage/seen/1'

export const CALLBACK_BYTES = 64 << 10
export const MANY = 100
const MANY_BYTES = 1 << 10

// js-yamux makes one frame of all that is buffered and fits the window, and rust-yamux drops the connection
// at a frame over 1 MiB. So never hand over much at once.
const CHUNK = 64 << 10

// What may arrive while we do not read: a window of js-yamux grows up to this. The default for the buffer is
// 4 MiB, and over that js resets the stream of a peer that kept to its window.
const MAX_WINDOW = 16 << 20

// Writes back what it reads, message by message: while the remote does not take more, we do not read more.
export async function serveEcho (stream) {
  try {
    for await (const bytes of reads(stream)) {
      await write(stream, bytes)
    }
    await stream.close()
  } catch (err) {
    console.error('echo:', err)
    stream.abort(err)
  }
}

// Does what it was asked for, and says how that went.
export function serveAsk (doing, deadlineMs) {
  return async (stream, connection) => {
    let verdict = 'ok\n'
    try {
      await doing(connection, AbortSignal.timeout(deadlineMs))
    } catch (err) {
      console.error(`${stream.protocol}:`, err)
      verdict = `error: ${err.message}\n`
    }
    try {
      await write(stream, new TextEncoder().encode(verdict))
      await stream.close()
    } catch (err) {
      console.error(`${stream.protocol}:`, err)
      stream.abort(err)
    }
  }
}

// Asks the listener to do something, and reads how that went.
export async function ask (connection, protocol, signal) {
  await withStream(connection, protocol, { signal }, async stream => {
    await stream.close({ signal }) // our half: there is nothing to say
    const decoder = new TextDecoder()
    let text = ''
    for await (const bytes of reads(stream)) {
      text += decoder.decode(bytes, { stream: true })
    }
    if (text !== 'ok\n') throw new Error(`the listener says ${JSON.stringify(text)}`)
  })
}

// Does as many echoes at once.
export async function many (connection, limits, signal) {
  const echoes = Array.from({ length: MANY }, () => echo(connection, MANY_BYTES, signal, limits))
  const failed = (await Promise.allSettled(echoes)).filter(({ status }) => status === 'rejected')
  if (failed.length > 0) throw new Error(`${failed.length} of ${MANY} failed, the first: ${failed[0].reason}`)
  return { streams: MANY }
}

// Sends the pattern, reads it back meanwhile, and compares. It must do both at once: more than the two
// windows hold would otherwise block both ends for ever.
export async function echo (connection, size, signal, limits = {}) {
  await withStream(connection, ECHO, { signal, ...limits }, stream => Promise.all([send(stream, size, signal), compare(stream, size)]))
  return { bytes: size }
}

export async function withStream (connection, protocol, options, use) {
  const { signal } = options
  const stream = await connection.newStream(protocol, options)
  const abort = () => stream.abort(signal.reason)
  signal.addEventListener('abort', abort)
  try {
    await use(stream)
  } catch (err) {
    stream.abort(err)
    throw err
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

async function send (stream, size, signal) {
  for (let at = 0; at < size; at += CHUNK) {
    await write(stream, pattern(at, Math.min(CHUNK, size - at)))
  }
  await stream.close({ signal }) // closes our half only
}

// Reads to the end, and wants exactly `size` bytes of the pattern.
async function compare (stream, size) {
  let total = 0
  for await (const bytes of reads(stream)) {
    if (total + bytes.length > size) throw new Error(`more than the ${size} bytes sent came back`)
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const part = bytes.subarray(at, at + CHUNK)
      const want = pattern(total, part.length)
      if (part.some((byte, i) => byte !== want[i])) {
        throw new Error(`wrong bytes within the ${part.length} after offset ${total}`)
      }
      total += part.length
    }
  }
  if (total !== size) throw new Error(`${total} of ${size} bytes came back`)
}

// Byte i of the test pattern is (i*31 + 7) mod 251, so it repeats every 251 bytes.
const PERIOD = 251
const PATTERN = Uint8Array.from({ length: PERIOD + CHUNK }, (_, i) => (i * 31 + 7) % PERIOD)

function pattern (from, length) {
  return PATTERN.subarray(from % PERIOD, from % PERIOD + length)
}

// Writes the bytes and returns when there is room for more.
export async function write (stream, bytes) {
  for (let at = 0; at < bytes.length; at += CHUNK) {
    if (!stream.send(bytes.subarray(at, at + CHUNK))) await drained(stream)
  }
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

// The bytes of a stream up to the half-close of the remote. The library's own iterator queues without limit;
// this one pauses the stream while its consumer is busy, so that the window of the remote runs out.
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
        await new Promise(resolve => setTimeout(resolve)) // of a reset stream, the `close` with the reason follows the `end`
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
