// As much of a Redis client as the contract needs: one command at a time (RESP, version 2).
import { connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'

const RETRY_MS = 200

export class Redis {
  // Tries until the server is there.
  static async connect (address) {
    const [host, port] = address.split(':')
    while (true) {
      const socket = connect({ host, port: Number(port ?? 6379) })
      const connected = await new Promise(resolve => socket.on('connect', () => resolve(true)).on('error', () => resolve(false)))
      if (connected) return new Redis(socket)
      await setTimeout(RETRY_MS)
    }
  }

  constructor (socket) {
    this.socket = socket
    this.lines = lines(socket)
  }

  async command (...words) {
    this.socket.write(`*${words.length}\r\n` + words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join(''))
    return await this.reply()
  }

  // No text here has a line break in it, so each is a line.
  async reply () {
    const { value: line, done } = await this.lines.next()
    if (done) throw new Error('redis has hung up')
    const rest = line.slice(1)
    if (line[0] === '-') throw new Error(`redis: ${rest}`)
    if (line[0] === ':') return Number(rest)
    if (line[0] === '+') return rest
    if (rest === '-1') return null
    if (line[0] === '$') return (await this.lines.next()).value
    const items = []
    for (let left = Number(rest); left > 0; left--) items.push(await this.reply())
    return items
  }
}

async function * lines (socket) {
  let rest = ''
  for await (const bytes of socket) {
    const all = (rest + bytes).split('\r\n')
    rest = all.pop()
    yield * all
  }
}
