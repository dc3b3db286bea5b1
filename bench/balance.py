#!/usr/bin/env python3
"""Compares balancers on unequal backends: those of Weir, nginx least_conn and HAProxy leastconn.

slow    three backends answer in 5 ms, one in 50 ms: throughput, latency, and the share of the slow backend.
failing three backends answer in 5 ms, one answers 500 in 0.1 ms: the share of the failing backend, with and without ejection.

The load is a closed loop of 64 connections. Each proxy has one thread and one core. Load and backends share the other cores. Rounds are
interleaved and begin with a warm-up of one second. The script prints medians. Run it with `make bench-balance`.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import contestants
from load import SECONDS
from processes import ROOT, Running, free_port, machine, undisturbed

FAST, SLOW, FAILING = (5000, 200), (50_000, 200), (100, 500)
CASES = {"slow": ("one of four backends is ten times slower", [FAST] * 3 + [SLOW]),
         "failing": ("one of four backends answers 500 in 0.1 ms", [FAST] * 3 + [FAILING])}


def weir(balance, outlier=False):
    def command(folder, port, backends):
        members = ", ".join(f"{{ name: b{n}, address: {address} }}" for n, address in enumerate(backends))
        path = folder / f"weir-{port}.yaml"
        path.write_text(f"""
server: {{ threads: 1 }}
log: {{ level: error }}
admin: {{ address: 127.0.0.1:{free_port()} }}
access_log: {{ path: off }}
listeners: [{{ name: bench, address: 127.0.0.1:{port} }}]
routes: [{{ name: all, upstream: all }}]
upstreams: {{ all: {{ balance: {balance}, outlier: {"{}" if outlier else "off"}, backends: [{members}] }} }}
""")
        return [ROOT / "target/dist/weir", "run", "-c", path]
    return command


def nginx(server="", proxy=""):
    def command(folder, port, backends):
        members = "\n".join(f"server {address} {server};" for address in backends)
        return contestants.nginx_command(folder, f"nginx-{port}", f"""
    upstream all {{ least_conn; {members} keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000000;
        location / {{ proxy_pass http://all; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; {proxy} }}
    }}""")
    return command


def haproxy(server=""):
    def command(folder, port, backends):
        members = "\n".join(f"    server b{n} {address} {server}" for n, address in enumerate(backends))
        path = folder / f"haproxy-{port}.cfg"
        path.write_text(f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend bench
    bind 127.0.0.1:{port}
    default_backend all
backend all
    balance leastconn
{members}
""")
        return ["haproxy", "-db", "-f", path]
    return command


def next_upstream():
    """nginx's settings for this: it counts failures and passes the request on to the next server."""
    return nginx("max_fails=5 fail_timeout=30s", "proxy_next_upstream error timeout http_500;")


FIELDS = {
    "slow": {
        "weir round_robin": weir("round_robin"),
        "weir least_connections": weir("least_connections"),
        "weir p2c": weir("p2c"),
        "weir peak_ewma": weir("peak_ewma"),
        "nginx least_conn": nginx(),
        "haproxy leastconn": haproxy(),
    },
    "failing": {
        "weir least_connections": weir("least_connections"),
        "weir p2c": weir("p2c"),
        "weir peak_ewma": weir("peak_ewma"),
        "nginx least_conn": nginx(),
        "haproxy leastconn": haproxy(),
        "weir least_connections, outlier": weir("least_connections", outlier=True),
        "weir p2c, outlier": weir("p2c", outlier=True),
        "weir peak_ewma, outlier": weir("peak_ewma", outlier=True),
        "nginx least_conn, max_fails and proxy_next_upstream": next_upstream(),
        "haproxy leastconn, observe layer7": haproxy("check inter 30s observe layer7 error-limit 5 on-error mark-down"),
    },
}


def build_origin():
    """Builds the backend from one file without dependencies."""
    path = ROOT / "target/bench/origin"
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rustc", "-O", "--edition=2024", contestants.BENCH / "origin.rs", "-o", path], check=True)
    return path


def counts(ports):
    def ask(port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=5) as answer:
            return int(answer.read())
    return [ask(port) for port in ports]


def wrk(options, port, seconds):
    """Returns requests/s, p50 and p99 in milliseconds, and the number of responses that were not 2xx."""
    done = subprocess.run(["taskset", "-c", options.load_cores, "wrk", "-t1", f"-c{options.connections}", f"-d{seconds}s", "--latency",
                           f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    if broken := re.search(r"Socket errors: (.*)", done):
        print(f"bench: port {port}: {broken[0]}: the figures of this round are of a machine that stood still", file=sys.stderr)

    def quantile(percent):
        value, unit = re.search(rf"^ +{percent}% +([\d.]+)(\w+)", done, re.M).groups()
        return float(value) * SECONDS[unit] * 1e3

    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    return float(re.search(r"Requests/sec: +([\d.]+)", done)[1]), quantile(50), quantile(99), int(failed[1]) if failed else 0


def measure(options, running, port, origins):
    wrk(options, port, 1)
    before, cpu = counts(origins), running.cpu()[0]
    started = time.monotonic()
    rate, p50, p99, failed = wrk(options, port, options.seconds)
    busy = (running.cpu()[0] - cpu) / (time.monotonic() - started)
    taken = [after - start for start, after in zip(before, counts(origins))]
    return {"rate": rate, "p50": p50, "p99": p99, "share": taken[3] / sum(taken), "busy": busy,
            "failed": failed / (rate * options.seconds)}


def show(case, results, rounds):
    odd = {"slow": "slow", "failing": "failing"}[case]
    print(f"\n{CASES[case][0]}, median of {rounds} rounds (lowest–highest)\n")
    print(f"| proxy | requests/s | p50 ms | p99 ms | the {odd} one's share | clients see 5xx | core in use |")
    print("|---|---|---|---|---|---|---|")

    def spread(values, unit, digits):
        low, middle, high = min(values), statistics.median(values), max(values)
        return f"{middle:,.{digits}f}{unit} ({low:,.{digits}f}–{high:,.{digits}f})"

    for name, measured in results.items():
        of = {key: [m[key] for m in measured] for key in measured[0]}
        print(f"| {name} | {spread(of['rate'], '', 0)} | {spread(of['p50'], '', 1)} | {spread(of['p99'], '', 1)} "
              f"| {spread([100 * s for s in of['share']], ' %', 2)} | {100 * statistics.median(of['failed']):.2f} % "
              f"| {100 * statistics.median(of['busy']):.0f} % |")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help=f"by commas, of {', '.join(CASES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--core", default="0", help="of the proxies")
    parser.add_argument("--skip-build", action="store_true", help="take target/dist/weir as it is")
    parser.add_argument("--json", help="write every measurement to this file")
    options = parser.parse_args()
    others = sorted(os.sched_getaffinity(0) - {int(options.core)})
    if not others:
        sys.exit("bench: one core only: load and proxy would fight over it")
    options.load_cores = ",".join(map(str, others))
    return options


def main():
    options = arguments()
    if not options.skip_build:
        contestants.build(["weir"])
    origin = build_origin()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    everything = {}
    print(f"{machine()}; proxies on core {options.core}, load and backends on {options.load_cores}; {options.connections} connections, {options.rounds} × {options.seconds} s")
    print(", ".join(f"{name} {contestants.version(name)}" for name in ("weir", "nginx", "haproxy")))
    for case in options.cases.split(","):
        with tempfile.TemporaryDirectory(prefix="weir-balance-") as folder:
            options.folder, started = pathlib.Path(folder), []
            try:
                everything[case] = bench(options, case, origin, started)
            finally:
                for running in started:
                    running.end()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(everything, indent=2) + "\n")


def bench(options, case, origin, started):
    def start(name, cores, command, port):
        running = Running(re.sub(r"\W+", "-", name), cores, command, options.folder)
        started.append(running)
        running.wait_for(port)
        return running

    origins = []
    for n, (delay, status) in enumerate(CASES[case][1]):
        origins.append(free_port())
        start(f"origin{n}", options.load_cores, [origin, f"127.0.0.1:{origins[n]}", delay, status], origins[n])
    field = {}
    for name, command in FIELDS[case].items():
        port = free_port()
        backends = [f"127.0.0.1:{origin}" for origin in origins]
        field[name] = (start(name, options.core, command(options.folder, port, backends), port), port)
    results = {name: [] for name in field}
    names = list(field)
    for turn in range(options.rounds):
        # Each round begins with another proxy, so that none is always the first after a pause.
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            results[name].append(undisturbed(lambda: measure(options, *field[name], origins)))
    show(case, results, options.rounds)
    return results


if __name__ == "__main__":
    main()
