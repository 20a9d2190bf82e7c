// Serves the page on loopback, where browsers take it for as safe as HTTPS: `serve.js [PORT]`.
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { pathToFileURL } from 'node:url'

const FILES = {
  '/': ['text/html', 'index.html'],
  '/style.css': ['text/css', 'style.css'],
  '/chat.js': ['text/javascript', 'dist/chat.js']
}

// Where it is served.
export async function serve (port) {
  const server = createServer(async (request, response) => {
    const [type, file] = FILES[new URL(request.url, 'http://localhost').pathname] ?? []
    if (file == null) return response.writeHead(404).end()
    response.writeHead(200, { 'content-type': `${type}; charset=utf-8` })
    response.end(await readFile(new URL(file, import.meta.url)))
  })
  await new Promise((resolve, reject) => server.on('error', reject).listen(port, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${server.address().port}/`, server }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { url } = await serve(Number(process.argv[2] ?? 8080))
  console.log(`The page is at ${url}`)
}
