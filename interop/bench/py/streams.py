"""What is served, and how bytes come out of a stream."""

import struct

from libp2p.network.stream.exceptions import StreamEOF

PERF = "/perf/1.0.0"
PING = "/ipfs/ping/1.0.0"
REQUEST = "/bench/req/1"
PING_SIZE = 32
REQUEST_SIZE = 1 + 64
CHUNK = 64 << 10
HEAD = 8


async def serve_perf(stream):
    """Read how much is wanted, then to the end, and write as much."""
    try:
        head = b""
        async for data in chunks(stream):
            if len(head) < HEAD:
                head += data[: HEAD - len(head)]
        (left,) = struct.unpack(">Q", head)
        zeros = bytes(CHUNK)
        while left > 0:
            await stream.write(zeros[: min(left, CHUNK)])
            left -= CHUNK
        await stream.close()
    except Exception:  # the client has seen enough; one that leaves a handler would end the whole host
        await stream.reset()


async def serve_request(stream):
    try:
        await stream.write(await read_exactly(stream, REQUEST_SIZE))
        await stream.close()
    except Exception:
        await stream.reset()


async def read_exactly(stream, size):
    data = b""
    while len(data) < size:
        more = await stream.read(size - len(data))
        if not more:
            raise ValueError(f"the stream ended after {len(data)} of {size} bytes")
        data += more
    return data


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
