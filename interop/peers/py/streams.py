"""What the protocols of the suite do with a stream."""

import logging
import struct
import time

from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.net_stream import StreamState
from libp2p.perf.constants import PROTOCOL_NAME as PERF
from libp2p.transport.quic.exceptions import QUICStreamClosedError
from libp2p.transport.webrtc.exceptions import WebRTCStreamError
from libp2p.transport.webrtc.stream import WebRTCStream
import trio

ECHO = "/peerage/echo/1"
CALLBACK = "/peerage/callback/1"
PING_BACK = "/peerage/ping-back/1"
CHANGE = "/peerage/change/1"
CHANGED = "/peerage/changed/1"
SEEN = "/peerage/seen/1"

CALLBACK_BYTES = 64 << 10
PERF_BYTES = 10 << 20
PERF_HEAD = struct.Struct(">Q")
MANY = 100
MANY_BYTES = 1 << 10
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


async def serve_ask(protocol, do, deadline, stream):
    """Do what we were asked for, and report."""
    verdict = "ok\n"
    try:
        with trio.fail_after(deadline):
            await do(stream.muxed_conn.peer_id)
    except Exception as error:
        logging.exception(protocol)
        verdict = f"error: {type(error).__name__}: {error}\n"
    try:
        await stream.write(verdict.encode())
        await stream.close()
    except Exception:
        logging.exception(protocol)
        await stream.reset()


async def ask(host, peer, protocol):
    """Ask the listener to do something, and read how that went."""
    async with open_stream(host, peer, protocol) as stream:
        await half_close(stream)  # there is nothing to say
        text = b"".join([data async for data in chunks(stream)])
    if text != b"ok\n":
        raise ValueError(f"the listener says {text!r}")
    return {}


async def many(host, peer):
    """Do as many echoes at once."""
    failed = []

    async def one():
        try:
            await echo(host, peer, MANY_BYTES)
        except Exception as error:
            logging.exception("many")
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(one)
    if failed:
        raise ValueError(f"{len(failed)} of {MANY} failed") from failed[0]
    return {"streams": MANY}


async def serve_perf(stream):
    """
    Read how much is wanted, then to the end, and write as much.

    The library serves this too, but over WebRTC it takes the end of what it reads for an error.
    """
    try:
        head = bytearray()
        async for data in chunks(stream):
            head += data[: PERF_HEAD.size - len(head)]
        (left,) = PERF_HEAD.unpack(head)
        while left > 0:
            await stream.write(bytes(min(left, CHUNK)))
            left -= min(left, CHUNK)
        await stream.close()
    except Exception:
        logging.exception("perf")
        await stream.reset()


async def perf(host, peer):
    """Upload, half-close and download, the same amount each way, as the perf specification says."""
    started = time.perf_counter()
    async with open_stream(host, peer, PERF) as stream:
        await stream.write(PERF_HEAD.pack(PERF_BYTES))
        for _ in range(0, PERF_BYTES, CHUNK):
            await stream.write(bytes(CHUNK))
        await half_close(stream)
        total = 0
        async for data in chunks(stream):
            if total == 0:  # its first byte says that the other side has all
                uploaded = time.perf_counter()
            total += len(data)
    if total != PERF_BYTES:
        raise ValueError(f"{total} of {PERF_BYTES} bytes came down")
    up, down = uploaded - started, time.perf_counter() - uploaded
    return {"bytes": PERF_BYTES, "up_ms": round(up * 1000), "down_ms": round(down * 1000)}


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
    await half_close(stream)


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


async def half_close(stream):
    """Say that no more comes, and go on reading. What WebRTC has for it is not public; its `close` ends both ways."""
    if isinstance(stream.muxed_stream, WebRTCStream):
        await stream.muxed_stream._close_write()
    else:
        await stream.close_write()


async def chunks(stream):
    """What comes, up to the half-close of the remote."""
    while True:
        try:
            data = await stream.read(CHUNK)
        except Exception as error:
            if not is_end(stream, error):
                raise
            if isinstance(stream.muxed_stream, WebRTCStream):
                await stream.set_state(StreamState.CLOSE_READ)  # otherwise nothing could be written any more
            return
        if not data:
            return
        yield data


def is_end(stream, error):
    """
    Whether there only is nothing more to read.

    A stream of QUIC says that it is closed, once both halves are. One of WebRTC has no error of its own for the end.
    """
    cause = error.__cause__
    if isinstance(cause, QUICStreamClosedError):
        return not stream.muxed_stream.is_reset()
    if isinstance(cause, WebRTCStreamError):
        return "closed" in str(cause)
    return isinstance(error, StreamEOF)


def make_pattern(size):
    """Byte i is (i*31 + 7) mod 251. It repeats every 251 bytes."""
    period = bytes((i * 31 + 7) % 251 for i in range(251))
    return (period * (size // 251 + 1))[:size]
