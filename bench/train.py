#!/usr/bin/env python3
"""The training run of `make release`: a mixed load on an instrumented weir, so that the compiler knows the hot code.

Common requests come often. Rare events (a reload, a refused request, a dead backend) come as well, so that the compiler knows that they
are rare. It trains two processes, with one and with two traffic threads. Each writes its profile when it ends gracefully.
"""
import http.client
import os
import pathlib
import socket
import sys
import tempfile

import contestants
import load
import origins
from processes import Stage, free_port, raise_limits

SECONDS = 3


def document(ports, backends, echoes, balance, threads, weight=1):
    def members(addresses):
        return ", ".join(f"{{ name: b{n}, address: {address} }}" for n, address in enumerate(addresses))

    others = "\n".join(f"  - {{ name: r{n}, match: {{ hosts: [h{n}.example.com], path_prefix: /api/v{n} }}, upstream: all }}" for n in range(10))
    return f"""
server: {{ threads: {threads} }}
log: {{ level: warn }}
admin: {{ address: 127.0.0.1:{ports['admin']} }}
access_log: {{ path: /dev/null }}
listeners: [{{ name: web, address: 127.0.0.1:{ports['web']} }}]
routes:
  - {{ name: all, match: {{ path_prefix: / }}, upstream: all, timeouts: {{ request: 30s }} }}
  - {{ name: ws, match: {{ path: /ws }}, upstream: echoes }}
  - {{ name: gone, match: {{ path: /gone }}, upstream: gone }}
  - {{ name: split, match: {{ path: /0.1k, headers: {{ x-split: "1" }} }}, split: [{{ upstream: all, weight: {weight} }}, {{ upstream: hashed, weight: 5 }}] }}
{others}
upstreams:
  all: {{ balance: {balance}, health_check: {{ http: {{ path: /0.1k }}, interval: 1s }}, backends: [{members(backends)}] }}
  hashed: {{ balance: consistent_hash, hash: {{ path: {{}} }}, backends: [{members(backends)}] }}
  echoes: {{ backends: [{members(echoes)}] }}
  gone: {{ backends: [{{ name: gone, address: 127.0.0.1:1 }}] }}
"""


# Rare requests: malformed and too long heads, an unknown method, an unknown path, a response of 503.
ODD = [b"GET / HTTP/1.1\r\n\r\n", b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n",
       b"BREW /0.1k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"\x16\x03\x01garbage",
       b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD /0.1k HTTP/1.0\r\n\r\n"]


BROWSER = ["User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Accept-Encoding: gzip, deflate, br, zstd",
           "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Language: en-US,en;q=0.5",
           "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark", "X-Split: 1"]


def train(stage, port, admin, again):
    """`again` writes the configuration file for a reload."""
    for turn in range(2):
        load.wrk(stage, port, SECONDS, connections=32)
        load.wrk(stage, port, SECONDS, headers=BROWSER, connections=8)
        load.wrk(stage, port, SECONDS, path="/post", body=1024)
        load.wrk(stage, port, SECONDS, path="/100k")
        load.wrk(stage, port, 1, path="/10m", connections=4)
        load.wrk(stage, port, 1, headers=["Connection: close"])
        load.h2load(stage, port, SECONDS, "-m8", connections=4)
        load.websocket(stage, port, 1)
        odd(port)
        again(turn + 2)
        ask(admin, "POST", "/api/v1/reload")
        for _ in range(3):
            ask(admin, "GET", "/metrics")
            ask(admin, "GET", "/api/v1/status")


def odd(port):
    for head in ODD * 20:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(5)
            connection.sendall(head)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


def ask(port, method, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body="{}" if method == "POST" else None, headers={"Content-Type": "application/json"})
    connection.getresponse().read()


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    contestants.helper("ws")
    raise_limits()
    # Not pinned: nothing is measured, and a machine with one core can build a release too.
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory(prefix="weir-train-") as folder, Stage(pathlib.Path(folder), cores, cores) as stage:
        backends, echoes = origins.http(stage), origins.websocket(stage)
        for threads, balance in ((1, "round_robin"), (1, "least_connections"), (2, "least_connections")):
            ports = {"web": free_port(), "admin": free_port()}
            file = stage.folder / "train.yaml"

            def write(weight):
                file.write_text(document(ports, backends, echoes, balance, threads, weight))

            write(1)
            print(f"train: {threads} threads, {balance}", flush=True)
            weir = stage.start(f"weir-{threads}-{balance}", cores, [binary, "run", "-c", file], ports["web"])
            train(stage, ports["web"], ports["admin"], write)
            stage.end(weir, patience=60)


if __name__ == "__main__":
    main()
