// What is seen of the chat.
import { join } from './chat.js'

const $ = id => document.getElementById(id)
let room

// The address may come in the link, after a `#`.
$('address').value = decodeURIComponent(location.hash.slice(1))

$('join').addEventListener('submit', async event => {
  event.preventDefault()
  busy(true)
  $('error').textContent = ''
  try {
    room = await join({ address: $('address').value.trim(), name: $('name').value, show })
    document.body.dataset.state = 'joined'
    $('me').textContent = room.name
    status('connected')
    $('text').focus()
  } catch (err) {
    $('error').textContent = `Nobody was reached: ${err.message}`
  } finally {
    busy(false)
  }
})

$('say').addEventListener('submit', event => {
  event.preventDefault()
  room.say($('text').value)
  $('text').value = ''
})

addEventListener('pagehide', () => room?.leave())

const show = {
  joined: name => note(`${name} joined`),
  left (name, others) {
    note(`${name} left`)
    if (others === 0) status('alone')
  },
  said (name, text, mine) {
    const line = element('li', mine ? 'said mine' : 'said')
    const last = $('lines').lastElementChild
    if (last?.dataset.name !== name) line.append(element('span', 'name', name))
    line.dataset.name = name
    line.append(element('span', 'text', text), element('time', '', now()))
    add(line)
  },
  failed: err => note(`Somebody was not reached: ${err.message}`)
}

function note (text) {
  add(element('li', 'note', text))
}

// Stays at the end, unless somebody reads further up.
function add (line) {
  const list = $('lines')
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40
  list.append(line)
  if (atEnd) list.scrollTop = list.scrollHeight
}

function element (tag, className, text = '') {
  const made = document.createElement(tag)
  made.className = className
  made.textContent = text // never as HTML: strangers wrote it
  return made
}

function status (word) {
  $('status').textContent = word
  $('status').className = word
}

function busy (is) {
  $('go').disabled = is
  $('go').textContent = is ? 'Joining …' : 'Join'
}

function now () {
  return new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
}
