#!/usr/bin/env python3
"""Requests that fail while one backend of three is faulty, with the shipped defaults.

250 requests a second for 8 s, each on a fresh or kept connection, over three backends of which one
  drop     accepts, reads the request and closes,
  errors   answers 500 for 5 s,
  killed   is killed after 2 s,
  stopped  is stopped (SIGSTOP) after 2 s.

    bench/ejection.py target/release/weir [--balance round_robin] [--method POST] [--rate 250] [--seconds 8]
"""
import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

ORIGIN = r"""
import asyncio, sys, time
kind, port = sys.argv[1], int(sys.argv[2])
began = None
async def serve(reader, writer):
    global began
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            low = head.lower()
            if b"content-length:" in low:
                await reader.readexactly(int(low.split(b"content-length:")[1].split(b"\r\n")[0]))
            began = began or time.monotonic()
            if kind == "drop":
                break
            bad = kind == "errors" and time.monotonic() - began < 5
            status = b"500 Internal Server Error" if bad else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except Exception:
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def origin(kind):
    child = subprocess.Popen([sys.executable, "-c", ORIGIN, kind, "0"], stdout=subprocess.PIPE, text=True)
    return child, int(child.stdout.readline())


def weir(binary, ports, balance):
    folder = tempfile.mkdtemp()
    backends = ", ".join(f'{{ address: "127.0.0.1:{port}" }}' for port in ports)
    path = os.path.join(folder, "weir.yaml")
    with open(path, "w") as file:
        file.write(f"""admin: {{ address: "127.0.0.1:0" }}
access_log: {{ path: "off" }}
listeners: [{{ name: web, address: "127.0.0.1:0" }}]
routes: [{{ name: all, upstream: up }}]
upstreams: {{ up: {{ balance: {balance}, backends: [{backends}] }} }}
""")
    child = subprocess.Popen([binary, "run", "-c", path], stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        found = re.match(r"listening web 127\.0\.0\.1:(\d+)", line)
        if found:
            port = int(found.group(1))
        if line.strip() == "ready":
            return child, port
    sys.exit("weir did not start")


async def one(port, pool, method, timeout):
    body = b"hello" if method == "POST" else b""
    request = (f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body
    try:
        async with asyncio.timeout(timeout):
            reader, writer = pool.pop() if pool else await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
            await reader.readexactly(length)
            if b"connection: close" not in head.lower():
                pool.append((reader, writer))
            return int(head.split()[1])
    except Exception as error:
        return type(error).__name__


async def load(port, args, at):
    pool, tasks, began = [], [], time.monotonic()
    for n in range(int(args.rate * args.seconds)):
        await asyncio.sleep(max(0, began + n / args.rate - time.monotonic()))
        if at and time.monotonic() - began > 2:
            at()
            at = None
        tasks.append(asyncio.create_task(one(port, pool, args.method, args.timeout)))
    return await asyncio.gather(*tasks)


def run(scenario, args):
    kind = scenario if scenario in ("drop", "errors") else "good"
    origins = [origin(kind), origin("good"), origin("good")]
    proxy, port = weir(args.weir, [port for _, port in origins], args.balance)
    signals = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
    at = (lambda: origins[0][0].send_signal(signals[scenario])) if scenario in signals else None
    results = asyncio.run(load(port, args, at))
    failed = [result for result in results if result != 200]
    kinds = {kind: failed.count(kind) for kind in set(failed)}
    print(f"{args.balance:20} {args.method:5} {scenario:8} {len(failed):5} failed of {len(results)}  {kinds or ''}", flush=True)
    for child in [proxy] + [child for child, _ in origins]:
        child.kill()
        child.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weir")
    parser.add_argument("--balance", default="round_robin")
    parser.add_argument("--method", default="POST")
    parser.add_argument("--rate", type=float, default=250)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--scenario", action="append")
    args = parser.parse_args()
    for scenario in args.scenario or ["drop", "errors", "killed", "stopped"]:
        run(scenario, args)


main()
