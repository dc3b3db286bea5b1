#!/usr/bin/env python3
"""Counts lost requests while one of three backends fails: Weir with its defaults, nginx, HAProxy and Caddy.

drops    from 1.5 s on, one backend closes its connections, and each new one as soon as it has accepted it.
closes   from 1.5 s on, one backend reads each request and closes the connection without a response. Such a POST may not be sent again.
errors   from 1.5 s on, one backend answers 500 for 5 s.
stopped  at 1.5 s, one backend ends: its port refuses connections.

The load is an open loop of POSTs with a small JSON body, 250 a second for 8 s. A request is lost if its client gets no response within
5 s, or one that is not 2xx. All proxies run at the same time with the same backends. Run it with `make bench-failing-backend`.
"""
import argparse
import asyncio
import collections
import json
import pathlib
import socket
import struct
import sys
import tempfile
import threading
import time

import contestants
from processes import ROOT, Running, free_port, machine

CASES = {"drops": 3, "closes": 3, "errors": 8, "stopped": 2}  # maximum of requests that Weir may lose
BEFORE, ERRORS_FOR, PATIENCE = 1.5, 5, 5  # seconds
BODY = b'{"kind":"reading","value":17}'
HEAD = b"POST /api/data HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def weir(folder, port, backends, binary=ROOT / "target/dist/weir"):
    members = ", ".join(f"{{ name: b{n}, address: {address} }}" for n, address in enumerate(backends))
    path = folder / f"weir-{port}.yaml"
    path.write_text(f"""
server: {{ threads: 1 }}
log: {{ level: error }}
admin: {{ address: 127.0.0.1:{free_port()} }}
access_log: {{ path: off }}
listeners: [{{ name: bench, address: 127.0.0.1:{port} }}]
routes: [{{ name: all, upstream: all }}]
upstreams: {{ all: {{ backends: [{members}] }} }}
""")
    return [binary, "run", "-c", path]


def peer(function):
    return lambda folder, port, backends: function(contestants.Setup(folder, port, backends))


PROXIES = {"weir": weir, "nginx": peer(contestants.nginx), "haproxy": peer(contestants.haproxy), "caddy": peer(contestants.caddy)}


class Origin:
    """A backend in this process. `mode`: ok | drops | closes | errors."""

    def __init__(self):
        self.mode, self.server, self.open = "ok", None, set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def serve(self, reader, writer):
        self.open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
                await reader.readexactly(length)
                if self.mode == "closes":
                    break
                status = b"500 Internal Server Error" if self.mode == "errors" else b"201 Created"
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def fail(self, mode):
        self.mode = mode
        if mode == "drops":
            await self.stop()
            threading.Thread(target=self.reset_connections, daemon=True).start()

    def reset_connections(self):
        """Runs in a thread of its own, so that most resets arrive before the request is written."""
        with socket.create_server(("127.0.0.1", self.port), backlog=1024) as listener:
            listener.settimeout(1)
            while self.mode == "drops":
                try:
                    accepted = listener.accept()[0]
                except TimeoutError:
                    continue
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()

    def disconnect(self):
        for writer in list(self.open):
            writer.close()

    async def stop(self):
        self.server.close()
        self.disconnect()


class Client:
    """Sends POSTs over pooled connections, and opens as many as it needs."""

    def __init__(self, port):
        self.port, self.idle, self.outcomes = port, [], collections.Counter()

    async def post(self):
        try:
            outcome = await asyncio.wait_for(self.exchange(), PATIENCE)
        except asyncio.TimeoutError:
            outcome = "no answer"
        except (OSError, asyncio.IncompleteReadError, ValueError):
            outcome = "broken"
        self.outcomes[outcome] += 1

    async def exchange(self):
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        kept = False
        try:
            writer.write(HEAD + BODY)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            kept = b"connection: close" not in head
            return int(head.split(b" ")[1])
        finally:
            self.idle.append((reader, writer)) if kept else writer.close()

    def lost(self):
        return sum(count for outcome, count in self.outcomes.items() if not (isinstance(outcome, int) and 200 <= outcome < 300))


async def load(client, rate, seconds):
    started, posts = time.monotonic(), []
    for n in range(int(rate * seconds) + 1):
        await asyncio.sleep(max(0, started + n / rate - time.monotonic()))
        posts.append(asyncio.create_task(client.post()))
    await asyncio.gather(*posts)


async def fail(case, origin):
    await asyncio.sleep(BEFORE)
    if case == "stopped":
        await origin.stop()
        return
    await origin.fail(case)
    if case == "errors":
        await asyncio.sleep(ERRORS_FOR)
        await origin.fail("ok")


async def measure(name, case, options, folder):
    origins = [await Origin().start() for _ in range(3)]
    port = free_port()
    command = PROXIES[name](folder, port, [f"127.0.0.1:{origin.port}" for origin in origins])
    running = Running(f"{name}-{case}-{port}", options.core, command, folder)
    try:
        await asyncio.to_thread(running.wait_for, port)
        client = Client(port)
        await asyncio.gather(load(client, options.rate, options.seconds), fail(case, origins[1]))
        return client
    finally:
        await asyncio.to_thread(running.end)
        for origin in origins:
            origin.mode = "ok"
            await origin.stop()


async def run(options, folder):
    missed = []
    print(f"| one of three backends | {' | '.join(options.only)} | goal for weir |\n|---|{'---|' * len(options.only)}---|")
    for case in options.cases:
        clients = dict(zip(options.only, await asyncio.gather(*(measure(name, case, options, folder) for name in options.only))))
        cells = [f"{client.lost()} of {sum(client.outcomes.values())}" for client in clients.values()]
        print(f"| {case} | {' | '.join(cells)} | {CASES[case]} |", flush=True)
        if "weir" in clients and clients["weir"].lost() > CASES[case]:
            missed.append(f"{case}: {json.dumps({str(k): v for k, v in clients['weir'].outcomes.items()})}")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(CASES))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PROXIES))
    parser.add_argument("--rate", type=int, default=250, help="requests a second")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--core", default="0", help="of the proxies")
    parser.add_argument("--binary", type=pathlib.Path, help="the weir to measure (default: target/dist/weir)")
    options = parser.parse_args()
    if options.binary:
        contestants.add_binary("weir", options.binary)
        PROXIES["weir"] = lambda folder, port, backends: weir(folder, port, backends, options.binary.resolve())
    if not contestants.CADDY.exists() and "caddy" in options.only:
        print("bench: caddy left out: it is not there", file=sys.stderr)
        options.only.remove("caddy")
    print(f"{machine()}; {options.rate} POSTs a second for {options.seconds:g} s; {', '.join(f'{n} {contestants.version(n)}' for n in options.only)}\n")
    with tempfile.TemporaryDirectory(prefix="weir-failing-") as folder:
        missed = asyncio.run(run(options, pathlib.Path(folder)))
    for line in missed:
        print(f"weir lost more than the goal: {line}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
