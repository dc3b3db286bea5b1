#!/usr/bin/env python3
"""Measures the CPU time of compression: a JSON body of 100 KiB at each encoding and level, Weir beside nginx (gzip) in the same run.

Each proxy runs on one core, the load and the backend on another. It prints the CPU time of a request and the size of its body. Proxies
take turns in each round, so that other work on the machine affects all of them. Run `make bench-compress`.
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

import contestants
import load
from processes import Stage, free_port, machine, raise_limits

LEVELS = {"gzip": (1, 4, 6), "br": (1, 4, 5), "zstd": (1, 3, 6)}


def document(size):
    """A JSON document as an API returns it, with a fixed seed."""
    chance, items = random.Random(7), []
    words = "alpha beta gamma delta order customer invoice status pending shipped total price quantity street city".split()
    while len(json.dumps(items)) < size:
        items.append({"id": chance.randrange(10**9), "name": " ".join(chance.choices(words, k=3)), "price": round(chance.random() * 100, 2),
                      "active": chance.random() < 0.5, "tags": chance.choices(words, k=4), "hash": f"{chance.getrandbits(128):032x}"})
    return json.dumps(items)[:size].encode()


def origin(stage, folder):
    port = free_port()
    (folder / "body.json").write_bytes(document(100 << 10))
    text = f"""daemon off; worker_processes 1; pid {folder}/origin.pid; error_log /dev/null; events {{ }}
http {{ access_log off; keepalive_requests 1000000; types {{ application/json json; }} server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"""
    file = folder / "origin.conf"
    file.write_text(text)
    folder.chmod(0o755)
    stage.start("origin", stage.load_cores, ["nginx", "-c", file], port)
    return port


def weir(folder, backend, binary, coding, level):
    port, admin = free_port(), free_port()
    file = folder / f"weir-{port}.yaml"
    compress = f"compress: {{ encodings: [{coding}], levels: {{ {coding}: {level} }} }}" if coding else ""
    file.write_text(f"""server: {{ threads: 1 }}
admin: {{ address: 127.0.0.1:{admin} }}
access_log: {{ path: "off" }}
listeners: [{{ address: 127.0.0.1:{port} }}]
routes: [{{ upstream: up, {compress} }}]
upstreams: {{ up: {{ backends: [{{ address: 127.0.0.1:{backend} }}] }} }}
""")
    return port, [binary, "run", "-c", file]


def nginx(folder, backend, coding, level):
    port = free_port()
    file = folder / f"nginx-{port}.conf"
    gzip = f"gzip on; gzip_types application/json; gzip_proxied any; gzip_comp_level {level};" if coding else ""
    places = " ".join(f"{kind}_temp_path {folder}/{kind}-{port};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file.write_text(f"""daemon off; worker_processes 1; pid {folder}/{port}.pid; error_log /dev/null; events {{ }}
http {{ access_log off; keepalive_requests 1000000; {places} {gzip}
upstream o {{ server 127.0.0.1:{backend}; keepalive 64; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffers 8 32k; }} }} }}""")
    return port, ["nginx", "-c", file]


def size(port, coding):
    got = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{size_download}", "-H", f"Accept-Encoding: {coding}", f"http://127.0.0.1:{port}/body.json"],
                         capture_output=True, text=True, check=True)
    return int(got.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(contestants.WEIRS["weir"]))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    raise_limits()
    with tempfile.TemporaryDirectory(prefix="weir-compress-") as name, Stage(pathlib.Path(name), "0", "1") as stage:
        folder = pathlib.Path(name)
        backend = origin(stage, folder)
        rows = [("weir", None, 0), ("nginx", None, 0)]
        rows += [("weir", coding, level) for coding, levels in LEVELS.items() for level in levels]
        rows += [("nginx", "gzip", level) for level in LEVELS["gzip"]]
        running = {}
        for row in rows:
            who, coding, level = row
            port, command = weir(folder, backend, options.binary, coding, level) if who == "weir" else nginx(folder, backend, coding, level)
            running[row] = (port, stage.start(f"{who}-{port}", stage.core, command, port))
        times = {row: [] for row in rows}
        for _ in range(options.rounds):
            for row, (port, process) in running.items():
                before = process.cpu()[0]
                done = load.wrk(stage, port, options.seconds, path="/body.json", headers=[f"Accept-Encoding: {row[1] or 'identity'}"])
                times[row].append((process.cpu()[0] - before) / done.requests * 1e6)
        print(f"{machine()}\n\n| proxy | encoding | level | CPU µs/request | bytes |\n|---|---|---|---|---|")
        for row, (port, _) in running.items():
            print(f"| {row[0]} | {row[1] or '–'} | {row[2] or '–'} | {statistics.median(times[row]):.0f} | {size(port, row[1] or 'identity'):,} |")


if __name__ == "__main__":
    sys.exit(main())
