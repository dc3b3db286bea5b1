#!/usr/bin/env python3
"""Measures the cost of a rate limit: Weir with and without one, nginx with limit_req, HAProxy with a stick table.

Each proxy runs in turn on one core, with a limit that no request reaches. The first table has the CPU time of a request. The second one has
Weir's instructions of a request in user space, counted by callgrind: without a limit, and with one in memory. Add an older binary with
BENCH="--binary old=PATH" to see the cost of a route without limits. Run `make bench-rate-limits`.
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile

import contestants
import instructions
import load
import origins
from processes import Stage, free_port, machine, raise_limits

# No request reaches it.
PER_SECOND = 10_000_000


def weir(setup, binary, limited):
    command = contestants.weir(setup, binary)
    if limited:
        file = pathlib.Path(command[-1])
        text = file.read_text().replace("match: { path_prefix: / }, upstream: all }", "match: { path_prefix: / }, upstream: all, rate_limits: [one] }")
        file.write_text(text + f"rate_limits: {{ one: {{ rate: {PER_SECOND}/1s, key: client }} }}\n")
    return command


def nginx(setup, limited):
    command = contestants.nginx(setup)
    if limited:
        text = pathlib.Path(command[-1]).read_text()
        zone = f"limit_req_zone $binary_remote_addr zone=one:10m rate={PER_SECOND // 10}r/s;"
        text = text.replace("http {\n", f"http {{\n    {zone}\n", 1).replace("location / {\n", "location / {\n            limit_req zone=one burst=1000000 nodelay;\n", 1)
        pathlib.Path(command[-1]).write_text(text)
    return command


def haproxy(setup, limited):
    command = contestants.haproxy(setup)
    if limited:
        table = ("    stick-table type ip size 100k expire 60s store http_req_rate(10s)\n    http-request track-sc0 src\n"
                 f"    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {PER_SECOND} }}\n")
        text = pathlib.Path(command[-1]).read_text()
        pathlib.Path(command[-1]).write_text(text.replace("    default_backend all\n", f"{table}    default_backend all\n", 1))
    return command


def commands(options):
    binaries = {"weir": contestants.WEIRS["weir"]} | {name: contestants.WEIRS[name] for name in options.others}
    makers = {name: lambda setup, limited, binary=binary: weir(setup, binary, limited) for name, binary in binaries.items()}
    return makers | {"nginx": nginx, "haproxy": haproxy}


def cpu_per_request(stage, name, make, limited, options):
    """Microseconds of CPU time of a small GET: the median of the rounds."""
    setup = contestants.Setup(stage.folder, free_port(), stage.backends)
    running = stage.start(f"{name}-{setup.port}", stage.core, make(setup, limited), setup.port)
    load.wrk(stage, setup.port, 1)
    rounds = []
    for _ in range(options.rounds):
        before = running.cpu()[0]
        done = load.wrk(stage, setup.port, options.seconds)
        rounds.append((running.cpu()[0] - before) / done.requests * 1e6)
    stage.end(running)
    return statistics.median(rounds)


def counted(stage, binary, limited, requests):
    """Instructions from the start of the process to its end."""
    port = free_port()
    out = stage.folder / f"{port}.out"
    command = weir(contestants.Setup(stage.folder, port, stage.backends), binary, limited)
    running = stage.start(f"weir-{port}", stage.core, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *command], port)
    subprocess.run(["h2load", "--h1", "-t1", f"-c{instructions.CONNECTIONS}", f"-n{requests}", f"http://127.0.0.1:{port}/0.1k"], check=True,
                   capture_output=True, timeout=600)
    stage.end(running, patience=60)
    return instructions.total(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", action="append", default=[], metavar="NAME=PATH", help="another weir, without a limit; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--requests", type=int, nargs=2, default=(1000, 5000), metavar=("FEW", "MANY"))
    options = parser.parse_args()
    for pair in options.binary:
        contestants.add_binary(*pair.split("=", 1))
    options.others = [pair.split("=")[0] for pair in options.binary]
    raise_limits()
    with tempfile.TemporaryDirectory(prefix="weir-rate-limits-") as folder, Stage(pathlib.Path(folder), "0", "1") as stage:
        stage.backends = origins.http(stage)
        print(f"{machine()}\n\n| proxy | CPU without a limit, µs | with one | ratio |\n|---|---|---|---|")
        for name, make in commands(options).items():
            plain = cpu_per_request(stage, name, make, False, options)
            if name in options.others:
                print(f"| {name} | {plain:.1f} | | |", flush=True)
                continue
            limited = cpu_per_request(stage, name, make, True, options)
            print(f"| {name} | {plain:.1f} | {limited:.1f} | {limited / plain:.3f} |", flush=True)
        few, many = options.requests
        print("\n| weir | instructions | ratio |\n|---|---|---|")
        rows = [(name, contestants.WEIRS[name], False) for name in options.others]
        rows += [("without a limit", contestants.WEIRS["weir"], False), ("one limit in memory", contestants.WEIRS["weir"], True)]
        first = None
        for name, binary, limited in rows:
            each = (counted(stage, binary, limited, many) - counted(stage, binary, limited, few)) / (many - few)
            first = first or each
            print(f"| {name} | {each:,.0f} | {each / first:.3f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
