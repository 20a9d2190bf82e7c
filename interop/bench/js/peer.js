// A benchmark peer of Peerage on js-libp2p. See ../README.md for the command line and what is printed.
import './node20.js'
import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { measure } from './measure.js'
import { newNode } from './node.js'
import { PERF, REQUEST, LIMITS, servePerf, serveRequest } from './streams.js'

const USAGE = 'usage: peer server|client ADDRESS MEASURE [--transport tcp-noise|tcp-tls] [--host IPV4] [--seconds S] [--write BYTES] [--connections N]'

// One thread runs all of JavaScript, so --workers is taken and left.
function parse () {
  const [role, ...rest] = process.argv.slice(2)
  const { values, positionals } = parseArgs({
    args: rest,
    allowPositionals: true,
    options: {
      transport: { type: 'string', default: 'tcp-noise' },
      workers: { type: 'string', default: '1' },
      host: { type: 'string', default: '127.0.0.1' },
      seconds: { type: 'string', default: '2' },
      write: { type: 'string', default: '65536' },
      connections: { type: 'string', default: '300' }
    }
  })
  const wanted = { server: 0, client: 2 }[role]
  if (positionals.length !== wanted) throw new Error(USAGE)
  return {
    transport: values.transport,
    host: values.host,
    ms: Number(values.seconds) * 1000,
    write: Number(values.write),
    connections: Number(values.connections),
    address: positionals[0],
    measure: positionals[1]
  }
}

async function serve (options) {
  const node = await newNode(options.transport, [`/ip4/${options.host}/tcp/0`])
  await node.handle(PERF, servePerf)
  await node.handle(REQUEST, serveRequest, LIMITS)
  const { dependencies } = JSON.parse(await readFile(new URL('package.json', import.meta.url)))
  say({
    event: 'listening',
    address: node.getMultiaddrs()[0].toString(),
    about: `js-libp2p ${dependencies.libp2p}, Node ${process.versions.node} (one thread)`
  })
}

export function say (event) {
  process.stdout.write(JSON.stringify(event) + '\n')
}

try {
  const options = parse()
  await (options.measure == null ? serve(options) : measure(options, say))
  // The harness holds the other end of stdin: when it goes away, so do we.
  process.stdin.resume()
  process.stdin.on('end', () => process.exit(0))
} catch (err) {
  if (err.name === 'UnsupportedError') {
    say({ event: 'unsupported', what: err.message })
    process.exit(0)
  }
  console.error('peer:', err)
  process.exit(1)
}
