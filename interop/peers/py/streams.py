"""What the two protocols of the suite do with a stream."""

import logging

from libp2p.network.stream.exceptions import StreamEOF
import trio

ECHO = "/peerage/echo/1"
CALLBACK = "/peerage/callback/1"

CALLBACK_BYTES = 64 << 10
CHUNK = 64 << 10


async def serve_echo(stream):
    """Write back what we read, chunk by chunk: a slow reader at the other end slows us down."""
    try:
        async for data in chunks(stream):
            await stream.write(data)
        await stream.close()
    except Exception:  # one that leaves a handler would end the whole host
        logging.exception("echo")
        await stream.reset()


async def serve_callback(host, deadline, stream):
    """Echo towards the dialer on a stream of our own, and report on the dialer's."""
    verdict = "ok\n"
    try:
        with trio.fail_after(deadline):
            await echo(host, stream.muxed_conn.peer_id, CALLBACK_BYTES)
    except Exception as error:
        logging.exception("callback")
        verdict = f"error: {type(error).__name__}: {error}\n"
    try:
        await stream.write(verdict.encode())
        await stream.close()
    except Exception:
        logging.exception("callback")
        await stream.reset()


async def callback(host, peer):
    """Ask the listener to echo towards us, and read how that went."""
    async with open_stream(host, peer, CALLBACK) as stream:
        await stream.close_write()  # there is nothing to say
        text = b"".join([data async for data in chunks(stream)])
    if text != b"ok\n":
        raise ValueError(f"the listener says {text!r}")
    return {}


async def echo(host, peer, size):
    """
    Send the pattern, read it back meanwhile, and compare.

    It must do both at once: more than the two windows hold would otherwise block both ends for ever.
    """
    async with open_stream(host, peer, ECHO) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send, stream, size)
        await compare(stream, size)
    return {"bytes": size}


class open_stream:
    """A stream that is reset if its block fails."""

    def __init__(self, host, peer, protocol):
        self.host, self.peer, self.protocol = host, peer, protocol

    async def __aenter__(self):
        self.stream = await self.host.new_stream(self.peer, [self.protocol])
        return self.stream

    async def __aexit__(self, error, *_):
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await (self.stream.close() if error is None else self.stream.reset())


async def send(stream, size):
    pattern = make_pattern(size)
    for at in range(0, size, CHUNK):
        await stream.write(pattern[at : at + CHUNK])
    await stream.close_write()


async def compare(stream, size):
    """Read to the end, and want exactly `size` bytes of the pattern."""
    pattern, total = make_pattern(size), 0
    async for data in chunks(stream):
        if total + len(data) > size:
            raise ValueError(f"more than the {size} bytes sent came back")
        if data != pattern[total : total + len(data)]:
            raise ValueError(f"wrong bytes within the {len(data)} after offset {total}")
        total += len(data)
    if total != size:
        raise ValueError(f"{total} of {size} bytes came back")


async def chunks(stream):
    """What comes, up to the half-close of the remote."""
    while True:
        try:
            data = await stream.read(CHUNK)
        except StreamEOF:
            return
        if not data:
            return
        yield data


def make_pattern(size):
    """Byte i is (i*31 + 7) mod 251. It repeats every 251 bytes."""
    period = bytes((i * 31 + 7) % 251 for i in range(251))
    return (period * (size // 251 + 1))[:size]
