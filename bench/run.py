#!/usr/bin/env python3
"""Side by side on one pinned core: what a proxied request costs Weir, a bare Pingora proxy, nginx and HAProxy.

Each contestant runs with one thread on one core; load generator and backends share the other cores. Rounds are interleaved, so
that what else the machine does falls on all of them, and medians are printed. CPU is user + system time of the contestant's
processes as the scheduler counts it, divided by the requests that were answered: unlike requests/s it does not depend on the load generator.

Needs nginx (it is also the backends), haproxy, wrk and taskset; `make bench` installs or names them.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
os.environ["PATH"] += ":/usr/sbin:/sbin"

# Case → (what it is, path, method, bytes of the request's body). The backends answer each path with as many bytes as it says.
CASES = {
    "get": ("small GET", "/0.1k", "GET", 0),
    "post": ("1 KiB POST", "/post", "POST", 1024),
    "100k": ("100 KiB response", "/100k", "GET", 0),
    "10m": ("10 MiB response", "/10m", "GET", 0),
}
FILES = {"0.1k": 100, "100k": 100 << 10, "10m": 10 << 20}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Contestants: how each is configured and started. All: keep-alive on both sides, round robin over three backends, no log ---


def weir(folder, port, backends):
    """Metrics, routing over a table of routes, and health checks are on; only the access log is off."""
    members = ", ".join(f"{{ name: b{n}, address: {address} }}" for n, address in enumerate(backends))
    others = "\n".join(f"  - {{ name: r{n}, match: {{ hosts: [h{n}.example.com], path_prefix: /api/v{n} }}, upstream: all }}" for n in range(10))
    (folder / "weir.yaml").write_text(f"""
server: {{ threads: 1 }}
log: {{ level: warn }}
admin: {{ address: 127.0.0.1:{free_port()} }}
access_log: {{ path: off }}
listeners:
  - {{ name: bench, address: 127.0.0.1:{port} }}
routes:
  - {{ name: all, match: {{ path_prefix: / }}, upstream: all }}
{others}
upstreams:
  all:
    balance: round_robin
    health_check: {{ tcp: {{}}, interval: 2s }}
    backends: [{members}]
""")
    return [ROOT / "target/release/weir", "run", "-c", folder / "weir.yaml"]


def bare(_folder, port, backends):
    return [ROOT / "target/bench/release/bare", f"127.0.0.1:{port}", "1", *backends]


def nginx(folder, port, backends):
    members = "\n".join(f"server {address};" for address in backends)
    return nginx_command(folder, "proxy", f"""
    upstream all {{ {members} keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000000;
        location / {{ proxy_pass http://all; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }}
    }}""")


def nginx_command(folder, name, servers, workers=1):
    user = "user root;" if os.getuid() == 0 else ""
    (folder / f"{name}.conf").write_text(f"""
{user} daemon off; worker_processes {workers}; pid {folder}/{name}.pid; error_log {folder}/{name}.err warn;
events {{ worker_connections 8192; }}
http {{
    access_log off; sendfile on; tcp_nopush on; open_file_cache max=100;
    client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy; fastcgi_temp_path {folder}/{name}-f;
    uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
{servers}
}}""")
    return ["nginx", "-p", folder, "-c", folder / f"{name}.conf"]


def haproxy(folder, port, backends):
    members = "\n".join(f"    server b{n} {address}" for n, address in enumerate(backends))
    (folder / "haproxy.cfg").write_text(f"""
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
    balance roundrobin
{members}
""")
    return ["haproxy", "-db", "-f", folder / "haproxy.cfg"]


CONTESTANTS = {"weir": weir, "bare": bare, "nginx": nginx, "haproxy": haproxy}


def version(name):
    asks = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "weir": [ROOT / "target/release/weir", "--version"]}
    if name == "bare":
        return "Pingora " + re.search(r'name = "pingora-core"\nversion = "(.*)"', (HERE / "bare/Cargo.lock").read_text())[1]
    done = subprocess.run(asks[name], capture_output=True, text=True)
    first = (done.stdout or done.stderr).splitlines()[0].split(" - ")[0]
    return re.sub(r"^(nginx version: nginx/|HAProxy version |weir )", "", first)


def build(names):
    """Weir and bare with the same profile, at the lowest priority: a machine at work stays usable."""
    profiles = [tomllib.loads((folder / "Cargo.toml").read_text())["profile"]["release"] for folder in (ROOT, HERE / "bare")]
    if profiles[0] != profiles[1]:
        sys.exit("bench: the release profiles of Weir and bench/bare differ: the comparison would mean nothing")
    cargo = ["nice", "cargo", "build", "--release", "--locked"]
    if "bare" in names:
        subprocess.run([*cargo, "--target-dir", ROOT / "target/bench"], cwd=HERE / "bare", check=True)
    if "weir" in names:
        subprocess.run([*cargo, "--bin", "weir"], cwd=ROOT, check=True)


# Processes ------------------------------------------------------------------------------------------------------------


class Running:
    """A process group that this script started, on the cores named; ended as a whole."""

    def __init__(self, name, cores, arguments, folder):
        self.name, self.log = name, folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["taskset", "-c", cores, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)

    def wait_for(self, port):
        until = time.monotonic() + 15
        while time.monotonic() < until and self.process.poll() is None:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
        sys.exit(f"bench: {self.name} does not listen:\n{self.log.read_text(errors='replace')[-2000:]}")

    def members(self):
        """Fields of /proc/PID/stat from the state on, of each process of the group."""
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    fields = pathlib.Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[2]) == self.process.pid:
                    yield entry.name, fields

    def cpu(self):
        """Seconds on a core so far as the scheduler counts them, to the nanosecond; and user and system in ticks, for their shares."""
        ticks, ran = [], 0
        for pid, fields in self.members():
            ticks.append((int(fields[11]), int(fields[12])))
            ran += sum(int(task.read_text().split()[0]) for task in pathlib.Path("/proc", pid, "task").glob("*/schedstat"))
        return ran / 1e9, *(sum(column) for column in zip(*ticks))

    def rss(self):
        return sum(int(fields[21]) for _, fields in self.members()) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self):
        for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
                self.process.wait(2)
                return
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                break
        self.process.wait()


# Load -----------------------------------------------------------------------------------------------------------------

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def wrk(options, case, port, seconds):
    """One run of wrk: requests answered, requests/s, p50 and p99 in seconds."""
    _, path, method, size = CASES[case]
    script = options.folder / f"{case}.lua"
    body = f'string.rep("x", {size})' if size else "nil"
    script.write_text(f'wrk.method = "{method}"\nwrk.body = {body}\n')
    done = subprocess.run(["taskset", "-c", options.load_cores, "wrk", "-t1", f"-c{options.connections}", f"-d{seconds}s", "--latency",
                           "-s", script, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", done)
    if bad:
        sys.exit(f"bench: requests failed, the numbers would be of errors:\n{done}")

    def quantile(percent):
        value, unit = re.search(rf"^ +{percent}% +([\d.]+)(\w+)", done, re.M).groups()
        return float(value) * SECONDS[unit]

    return int(re.search(r"(\d+) requests in", done)[1]), float(re.search(r"Requests/sec: +([\d.]+)", done)[1]), quantile(50), quantile(99)


def measure(options, case, running, port):
    before = running.cpu()
    requests, rate, p50, p99 = wrk(options, case, port, options.seconds)
    ran, user, system = (after - start for after, start in zip(running.cpu(), before))
    cpu, share = ran / requests * 1e6, user / max(user + system, 1)
    return {"user": cpu * share, "system": cpu * (1 - share), "cpu": cpu,
            "rate": rate, "p50": p50 * 1e3, "p99": p99 * 1e3, "rss": running.rss()}


def show(case, results, names):
    rounds = len(next(iter(results.values())))
    base = sorted(r["cpu"] for r in results["bare"])[rounds // 2] if "bare" in results else None
    print(f"\n{CASES[case][0]}, median of {rounds} rounds\n")
    print("| proxy | CPU µs/request | user | system | against bare | requests/s | p50 ms | p99 ms | RSS MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        middle = {key: statistics.median(r[key] for r in results[name]) for key in results[name][0]}
        # User and system of the round in the middle, so that they add up.
        middle |= {key: sorted(results[name], key=lambda r: r["cpu"])[rounds // 2][key] for key in ("cpu", "user", "system")}
        spread = max(r["cpu"] for r in results[name]) - min(r["cpu"] for r in results[name])
        against = f"{middle['cpu'] / base:.2f} ×" if base else "–"
        print(f"| {name} | {middle['cpu']:.1f} ± {spread / 2:.1f} | {middle['user']:.1f} | {middle['system']:.1f} | {against} "
              f"| {middle['rate']:,.0f} | {middle['p50']:.2f} | {middle['p99']:.2f} | {middle['rss']:.0f} |")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CONTESTANTS), help="contestants, by commas (default: all)")
    parser.add_argument("--cases", default="get", help=f"cases, by commas, of {', '.join(CASES)}; or all (default: get)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--core", default="0", help="of the contestants")
    parser.add_argument("--load-cores", help="of load and backends (default: all others)")
    parser.add_argument("--skip-build", action="store_true", help="take the binaries as they are; one that is missing is left out")
    parser.add_argument("--json", help="write every measurement to this file")
    options = parser.parse_args()
    options.names = options.only.split(",")
    options.cases = list(CASES) if options.cases == "all" else options.cases.split(",")
    for name, known in [(n, CONTESTANTS) for n in options.names] + [(c, CASES) for c in options.cases]:
        if name not in known:
            parser.error(f"{name}: not one of {', '.join(known)}")
    others = sorted(os.sched_getaffinity(0) - {int(options.core)})
    if not options.load_cores and not others:
        sys.exit("bench: one core only: load and proxy would fight over it")
    options.load_cores = options.load_cores or ",".join(map(str, others))
    return options


def main():
    options = arguments()
    if not options.skip_build:
        build(options.names)
    needed = {"wrk", "taskset", "nginx"} | ({"haproxy"} & set(options.names))
    if missing := [tool for tool in sorted(needed) if not shutil.which(tool)]:
        sys.exit(f"bench: missing: {', '.join(missing)} (see `make bench`)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        options.folder, started = pathlib.Path(folder), []
        try:
            bench(options, started)
        finally:
            for running in started:
                running.end()


def bench(options, started):
    def start(name, cores, command, port):
        running = Running(name, cores, command, options.folder)
        started.append(running)
        running.wait_for(port)
        return running

    for name, size in FILES.items():
        (options.folder / name).write_bytes(b"x" * size)
    ports = [free_port() for _ in range(3)]
    listens = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    origins = nginx_command(options.folder, "origins", f"""
    server {{ {listens} root {options.folder}; keepalive_requests 1000000000; location /post {{ return 201 "stored"; }} }}""")
    start("origins", options.load_cores, origins, ports[0])
    backends = [f"127.0.0.1:{port}" for port in ports]

    field = {}
    for name in options.names:
        port = free_port()
        command = CONTESTANTS[name](options.folder, port, backends)
        if not shutil.which(str(command[0])):
            print(f"bench: {name} left out: {command[0]} is not there", file=sys.stderr)
            continue
        field[name] = (start(name, options.core, command, port), port)
    if not field:
        sys.exit("bench: no contestant")

    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print(f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} cores, Linux {os.uname().release}; proxies on core {options.core}, "
          f"load and backends on {options.load_cores}; {options.connections} connections, {options.rounds} × {options.seconds} s")
    for name in field:
        print(f"{name}: {version(name)}")

    everything = {}
    for case in options.cases:
        results = everything[case] = {name: [] for name in field}
        for running, port in field.values():
            wrk(options, case, port, 1)
        names = list(field)
        for turn in range(options.rounds):
            # Each round begins with another one: none is always the first after a pause.
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                results[name].append(measure(options, case, *field[name]))
                if sys.stderr.isatty():
                    print(f"\r{case}: round {turn + 1}/{options.rounds} {name}\033[K", end="\r", file=sys.stderr, flush=True)
        show(case, results, names)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
