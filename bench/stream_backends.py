"""Backends of `streams.py`: they send one piece after another and remember when. HTTP/1 and HTTP/2, plain and under TLS.

The HTTP/2 server knows only as much of the protocol as clients and proxies need for one small stream: it reads no header block, so the
port decides the kind of the stream.
"""
import asyncio
import ssl
import struct
import time

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

TYPES = {"events": "text/event-stream", "lines": "application/x-ndjson", "grpc": "application/grpc", "download": "application/octet-stream",
         "poll": "application/json", "llm": "text/event-stream"}


def piece(kind, number):
    """The bytes of a piece. Each one ends with a line end, so that a client that reads lines sees it."""
    if kind == "events":
        return b"data: %d\n" % number
    if kind == "llm":
        return b'data: {"choices":[{"index":0,"delta":{"content":" word"}}],"n":%d}\n\n' % number
    if kind == "grpc":
        payload = b"%d\n" % number
        return b"\0" + struct.pack(">I", len(payload)) + payload
    return b'{"n":%06d}\n' % number


def number_of(line):
    """The number of the piece that this line has."""
    digits = bytes(byte for byte in line[-12:] if 48 <= byte <= 57)
    return int(digits) if digits else None


class Backend:
    """One port: a kind of streams over one protocol. `sent` has the time of each piece of the stream under way."""

    def __init__(self, kind, http2, context, options):
        self.kind, self.http2, self.context, self.pieces, self.interval = kind, http2, context, options.pieces, options.interval / 1000
        self.silence = options.silence if kind == "llm" else 0
        self.sent, self.polls, self.tasks = {}, 0, set()

    async def start(self):
        serve = self.serve2 if self.http2 else self.serve1
        self.server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def reset(self):
        self.sent, self.polls = {}, 0

    def length(self):
        return len(piece(self.kind, 0)) * (1 if self.kind == "poll" else self.pieces)

    async def parts(self):
        """The pieces of one response, each at its time. A long poll has one, and it waits before its header."""
        if self.kind == "poll":
            self.polls += 1
            yield piece(self.kind, self.polls - 1), self.polls - 1
            return
        await asyncio.sleep(self.silence)
        for number in range(self.pieces):
            await asyncio.sleep(self.interval)
            yield piece(self.kind, number), number

    async def serve1(self, reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                sized = self.kind in ("download", "poll")
                framing = f"Content-Length: {self.length()}" if sized else "Transfer-Encoding: chunked"
                response = f"HTTP/1.1 200 OK\r\nContent-Type: {TYPES[self.kind]}\r\n{framing}\r\n\r\n".encode()
                if self.kind == "poll":
                    await asyncio.sleep(self.interval)
                else:
                    writer.write(response)
                    response = b""
                async for data, number in self.parts():
                    self.sent[number] = time.monotonic()
                    writer.write(response + (data if sized else b"%x\r\n%b\r\n" % (len(data), data)))
                if not sized:
                    writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def serve2(self, reader, writer):
        def send(kind, flags, stream, payload=b""):
            writer.write(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

        try:
            await reader.readexactly(PREFACE)
            send(SETTINGS, 0, 0)
            while True:
                head = await reader.readexactly(9)
                length, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
                payload = await reader.readexactly(length)
                if kind == SETTINGS and not flags & 1:
                    send(SETTINGS, 1, 0)
                elif kind == PING and not flags & 1:
                    send(PING, 1, 0, payload)
                elif kind == HEADERS:
                    task = asyncio.ensure_future(self.stream(send, stream))
                    self.tasks.add(task)
                    task.add_done_callback(self.tasks.discard)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def stream(self, send, stream):
        """Answers one request. Header blocks: `:status: 200` is index 8 of the static table; the others are literals."""
        if self.kind == "poll":
            await asyncio.sleep(self.interval)
        fields = b"\x88" + literal("content-type", TYPES[self.kind])
        if self.kind in ("download", "poll"):
            fields += literal("content-length", str(self.length()))
        send(HEADERS, 4, stream, fields)
        async for data, number in self.parts():
            self.sent[number] = time.monotonic()
            send(DATA, 0, stream, data)
        if self.kind == "grpc":
            send(HEADERS, 5, stream, literal("grpc-status", "0"))
        else:
            send(DATA, 1, stream)


def literal(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
