// The perf protocol, https://github.com/libp2p/specs/blob/master/perf/perf.md. There is no package of it for libp2p 3.
import { reads, withStream, write } from './streams.js'

export const PERF = '/perf/1.0.0'

const BYTES = 10 << 20
const HEAD = 8
const ZEROS = new Uint8Array(64 << 10)

// Reads how much is wanted, then to the end, and writes as much.
export async function servePerf (stream) {
  try {
    const head = new Uint8Array(HEAD)
    let total = 0
    for await (const bytes of reads(stream)) {
      if (total < HEAD) head.set(bytes.subarray(0, HEAD - total), total)
      total += bytes.length
    }
    if (total < HEAD) throw new Error('it ended before it said how much it wants')
    await writeZeros(stream, Number(new DataView(head.buffer).getBigUint64(0)))
    await stream.close()
  } catch (err) {
    console.error('perf:', err)
    stream.abort(err)
  }
}

// The same amount each way.
export async function perf (connection, signal) {
  const { up, down } = await measure(connection, BYTES, BYTES, signal)
  return { bytes: BYTES, up_ms: Math.round(up), down_ms: Math.round(down) }
}

// Uploads, half-closes and downloads; says how many ms each took.
export async function measure (connection, upload, download, signal) {
  let uploaded
  const started = performance.now()
  await withStream(connection, PERF, { signal }, async stream => {
    const head = new Uint8Array(HEAD)
    new DataView(head.buffer).setBigUint64(0, BigInt(download))
    await write(stream, head)
    await writeZeros(stream, upload)
    await stream.close({ signal }) // closes our half only
    let total = 0
    for await (const bytes of reads(stream)) {
      uploaded ??= performance.now() // its first byte says that the other side has all
      total += bytes.length
    }
    if (total !== download) throw new Error(`${total} of ${download} bytes came down`)
  })
  const ended = performance.now()
  uploaded ??= ended // nothing was to come down
  return { up: uploaded - started, down: ended - uploaded }
}

async function writeZeros (stream, size) {
  for (let left = size; left > 0; left -= ZEROS.length) {
    await write(stream, ZEROS.subarray(0, Math.min(left, ZEROS.length)))
  }
}
