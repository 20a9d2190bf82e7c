"""How each measure is taken, by the client."""

import math
import struct
from time import perf_counter

import trio

from streams import PERF, PING, PING_SIZE, REQUEST, REQUEST_SIZE, chunks, read_exactly

MEASURES = ["up", "down", "ping", "connect", "connect-32", "first-contact", "requests", "requests-64", "idle"]
WARM_UP = 0.2  # before anything counts, at most
STUCK = 30  # what is later hangs
SETTLE = 2  # before memory is looked at
ENDLESS = 1 << 44  # a download that ends by time
NODES = 32
REQUESTS = 64
FIRST_IDLE = 16


async def take(options, start, say):
    """Take a measure, and say what it is. `start` gives a node that runs."""
    match options.measure:
        case "up" | "down":
            way = upload if options.measure == "up" else download
            host = await connected(options, start)
            await way(host, options, min(WARM_UP, options.seconds))
            say(event="begin")
            say(event="result", result=await way(host, options, options.seconds))
        case "ping":
            await pings(await connected(options, start), options, say)
        case "connect":
            await connections(options, start, say, 1, True)
        case "connect-32":
            await connections(options, start, say, NODES, False)
        case "first-contact":
            await first_contact(options, start, say)
        case "requests":
            await requests(await connected(options, start), options, say, 1)
        case "requests-64":
            await requests(await connected(options, start), options, say, REQUESTS)
        case "idle":
            await idle(options, start, say)


async def connected(options, start):
    host = await start()
    with trio.fail_after(STUCK):
        await host.connect(options.address)
    return host


async def open_stream(host, options, protocol):
    with trio.fail_after(STUCK):
        return await host.new_stream(options.address.peer_id, [protocol])


async def upload(host, options, seconds):
    """Send for so long, and until the listener has read everything."""
    began, sent, chunk = perf_counter(), 0, bytes(options.write)
    stream = await open_stream(host, options, PERF)
    await stream.write(struct.pack(">Q", 1))
    while perf_counter() - began < seconds:
        await stream.write(chunk)
        sent += len(chunk)
    await stream.close_write()
    await read_exactly(stream, 1)
    return {"bytes": sent, "seconds": perf_counter() - began}


async def download(host, options, seconds):
    """Read for so long, and then leave the rest."""
    began, received = perf_counter(), 0
    stream = await open_stream(host, options, PERF)
    await stream.write(struct.pack(">Q", ENDLESS))
    await stream.close_write()
    async for data in chunks(stream):
        received += len(data)
        if perf_counter() - began >= seconds:
            break
    result = {"bytes": received, "seconds": perf_counter() - began}
    await stream.reset()
    return result


async def round_trip(stream):
    began = perf_counter()
    with trio.fail_after(STUCK):
        await stream.write(bytes(PING_SIZE))
        await read_exactly(stream, PING_SIZE)
    return perf_counter() - began


async def pings(host, options, say):
    stream = await open_stream(host, options, PING)
    warm = perf_counter()
    while perf_counter() - warm < min(WARM_UP, options.seconds):
        await round_trip(stream)
    say(event="begin")
    began, times = perf_counter(), []
    while perf_counter() - began < options.seconds:
        times.append(await round_trip(stream))
    say(event="result", result=operations(times, began))


async def connections(options, start, say, count, with_ping):
    hosts = [await start() for _ in range(count)]
    for host in hosts:
        await connection(host, options, with_ping)
    say(event="begin")
    began, times = perf_counter(), []

    async def again_and_again(host):
        while perf_counter() - began < options.seconds:
            times.append(await connection(host, options, with_ping))

    async with trio.open_nursery() as nursery:
        for host in hosts:
            nursery.start_soon(again_and_again, host)
    say(event="result", result=operations(times, began))


async def first_contact(options, start, say):
    """By hosts that have never heard of the listener; they live on, since one that ends ends the others' nursery."""
    await connection(await start(), options, True)
    say(event="begin")
    began, times = perf_counter(), []
    while perf_counter() - began < options.seconds:
        times.append(await connection(await start(), options, True))
    say(event="result", result=operations(times, began))


async def connection(host, options, with_ping):
    """Dial and close. What it took does not count the close, but how many there are in a second does."""
    began = perf_counter()
    with trio.fail_after(STUCK):
        await host.connect(options.address)
    if with_ping:
        await round_trip(await open_stream(host, options, PING))
    took = perf_counter() - began
    await host.disconnect(options.address.peer_id)
    return took


async def requests(host, options, say, at_once):
    async def ask(seconds):
        began, times = perf_counter(), []

        async def again_and_again():
            while perf_counter() - began < seconds:
                times.append(await request(host, options))

        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(again_and_again)
        return times

    await ask(min(WARM_UP, options.seconds))
    say(event="begin")
    began = perf_counter()
    say(event="result", result=operations(await ask(options.seconds), began))


async def request(host, options):
    began = perf_counter()
    stream = await open_stream(host, options, REQUEST)
    with trio.fail_after(STUCK):
        await stream.write(bytes([REQUEST_SIZE - 1] * REQUEST_SIZE))
        await stream.close_write()
        await read_exactly(stream, REQUEST_SIZE)
        await stream.close()
    return perf_counter() - began


async def idle(options, start, say):
    async def hold(count):
        for _ in range(count):
            await connected(options, start)

    await hold(FIRST_IDLE)
    await trio.sleep(SETTLE)
    say(event="begin")
    began = perf_counter()
    await hold(options.connections)
    await trio.sleep(SETTLE)
    say(event="result", result={"connections": options.connections, "seconds": perf_counter() - began})


def operations(times, began):
    took = perf_counter() - began
    times.sort()

    def quantile(percent):
        return times[math.ceil(len(times) * percent / 100) - 1] * 1e6 if times else 0

    return {"operations": len(times), "seconds": took, "p50_us": quantile(50), "p99_us": quantile(99)}
