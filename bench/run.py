#!/usr/bin/env python3
"""Measures the cost of a proxied request on one pinned core: Weir, a bare Pingora proxy, nginx, HAProxy and Caddy.

Each proxy runs with one thread on one core. The load generator and the backends share the other cores. Rounds are interleaved, so that
other work on the machine affects all proxies. The script prints medians. CPU is user and system time of the proxy's processes as the
scheduler counts it, divided by the answered requests. Unlike requests/s, it does not depend on the load generator. `rate` measures
latency at a fixed rate, in an open loop with least connections. `idle` measures memory with idle connections.

It needs nginx, which is also the backends, and the load generators. `make bench` installs or names them. A missing proxy is skipped with
a message. `--write PAGE` writes each table into the page's section of that name.
"""
import argparse
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import compare
import contestants
import idle
import report
import steady
from cases import CASES
from processes import Stage, machine, raise_limits

# Sections that are not cases of `compare`: the module that measures them, and their title.
APART = {"rate": (steady, "Latency at a fixed rate"), "idle": (idle, "Memory of idle connections")}
SECTIONS = [*CASES, *APART]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"contestants, by commas, of {', '.join(contestants.names())} (default: all)")
    parser.add_argument("--binary", action="append", default=[], metavar="NAME=PATH", help="another weir beside them; may be repeated")
    parser.add_argument("--cases", default="get", help=f"by commas, of {', '.join(SECTIONS)}; or all (default: get)")
    parser.add_argument("--starts", type=int, default=3, help="how often all proxies are started again, each time for --rounds rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, help="requests/s for `rate` (default: half of what the slowest can do)")
    parser.add_argument("--idle", type=int, default=5000, help="connections for `idle`")
    parser.add_argument("--core", default="0", help="of the contestants")
    parser.add_argument("--load-cores", help="of load and backends (default: all others)")
    parser.add_argument("--skip-build", action="store_true", help="take the binaries as they are; one that is missing is left out")
    parser.add_argument("--json", help="write every measurement to this file")
    parser.add_argument("--write", metavar="PAGE", help="put the tables into this page, e.g. docs/performance.md")
    options = parser.parse_args()
    for pair in options.binary:
        contestants.add_binary(*pair.split("=", 1))
    options.names = options.only.split(",") + [pair.split("=")[0] for pair in options.binary] if options.only else contestants.names()
    options.cases = SECTIONS if options.cases == "all" else options.cases.split(",")
    for name, known in [(n, contestants.names()) for n in options.names] + [(c, SECTIONS) for c in options.cases]:
        if name not in known:
            parser.error(f"{name}: not one of {', '.join(known)}")
    others = sorted(os.sched_getaffinity(0) - {int(options.core)})
    if not options.load_cores and not others:
        sys.exit("bench: one core only: load and proxy would fight over it")
    options.load_cores = options.load_cores or ",".join(map(str, others))
    options.say = say
    return options


def say(words):
    if sys.stderr.isatty():
        print(f"\r{words}\033[K", end="\r", file=sys.stderr, flush=True)


def certificate(folder):
    """Makes an ECDSA P-256 key and a self-signed certificate."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def measure(options, key):
    """Measures one section and returns the results and their text. All processes are started again, so that no case affects the next."""
    title, kind = (APART[key][1], APART[key][0]) if key in APART else (CASES[key].title, compare)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder, Stage(pathlib.Path(folder), options.core, options.load_cores) as stage:
        options.cert, options.key = certificate(stage.folder) if key in CASES and CASES[key].front == "tls" else (None, None)
        results = kind.run(stage, options, key)
    if not results:
        sys.exit("bench: no contestant")
    say("")
    return title, results, kind.table(key, results)


def conditions(options, key, results):
    """Describes the machine, the versions and the command."""
    versions = ", ".join(f"{name} {contestants.version(name)}" for name in results)
    load = f"{options.idle:,} connections" if key == "idle" else f"{options.connections} connections, {options.starts} × {options.rounds} × {options.seconds} s interleaved"
    command = f"make bench BENCH={shlex.quote(shlex.join(['--cases', key, '--starts', str(options.starts), '--rounds', str(options.rounds), '--seconds', str(options.seconds)]))}"
    return f"{report.today()}, {machine()}; one core for the proxy; {load}, medians. {versions}. `{command}`"


def publish(options, key, results, table):
    chart = report.write_chart(options.write, key, compare.chart(key, results)) if key in CASES else ""
    if not report.write(options.write, key, f"{chart}{table}\n\n{conditions(options, key, results)}"):
        print(f"bench: {options.write} has no section {key}: not written", file=sys.stderr)


def main():
    options = arguments()
    if not options.skip_build:
        contestants.build(options.names)
    if "websocket" in options.cases and not options.skip_build:
        contestants.helper("ws")
    if {"handshake", "resumed"} & set(options.cases) and not options.skip_build:
        contestants.helper("tls")
    if missing := [tool for tool in ("wrk", "h2load", "taskset", "nginx", "openssl") if not shutil.which(tool)]:
        sys.exit(f"bench: missing: {', '.join(missing)} (see `make bench`)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_limits()
    everything = {}
    print(f"{machine()}; proxies on core {options.core}, load and backends on {options.load_cores}; {options.connections} connections, "
          f"{options.starts} × {options.rounds} × {options.seconds} s")
    for key in options.cases:
        title, results, table = measure(options, key)
        everything[key] = results
        print(f"\n{title}, median of {len(next(iter(results.values())))} rounds\n\n{table}", flush=True)
        if options.write:
            publish(options, key, results, table)
    print()
    for name in sorted({name for results in everything.values() for name in results}, key=contestants.names().index):
        note = contestants.NOTES.get(name)
        print(f"{name}: {contestants.version(name)}{f'; {note}' if note else ''}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
