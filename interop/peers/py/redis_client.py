"""As much of a Redis client as the contract needs: one command at a time (RESP, version 2)."""

import trio

RETRY = 0.2


class Redis:
    @classmethod
    async def connect(cls, address):
        """Try until the server is there."""
        host, _, port = address.partition(":")
        while True:
            try:
                return cls(await trio.open_tcp_stream(host, int(port or 6379)))
            except OSError:
                await trio.sleep(RETRY)

    def __init__(self, stream):
        self.stream = stream
        self.buffer = b""

    async def command(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
        await self.stream.send_all(b"".join(parts))
        return await self.reply()

    async def reply(self):
        line = await self.line()
        kind, rest = line[:1], line[1:]
        if kind == "-":
            raise ValueError(f"redis: {rest}")
        if kind == "+":
            return rest
        if kind == ":":
            return int(rest)
        if rest == "-1":
            return None
        if kind == "$":
            return await self.line()  # no text here has a line break in it
        return [await self.reply() for _ in range(int(rest))]

    async def line(self):
        while b"\r\n" not in self.buffer:
            data = await self.stream.receive_some(4096)
            if not data:
                raise ValueError("redis has hung up")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode()
