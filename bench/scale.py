#!/usr/bin/env python3
"""Measures the cost of size: Weir with 10, 100, 1,000 and 10,000 routes and as many backends, health checks on.

For each size it measures the time to `ready`, the time to the first health of every backend, memory, a scrape, a reload that changes one
weight, and CPU per request of the traffic thread. CPU is measured with one hot host and with requests to all hosts. For the largest size
it also measures how evenly health checks are spread, and the effect of reloads on requests at a fixed rate. CPU per request on a hot host
may not grow with the size. Everything else may grow at most in proportion. Otherwise the exit status is 1.

Backends are addresses of 127.0.0.0/8, all served by one nginx. Run it with `make bench-scale`.
"""
import argparse
import collections
import http.client
import json
import pathlib
import shlex
import statistics
import sys
import tempfile
import threading
import time

import contestants
import load
import report
from processes import ROOT, Stage, free_port, machine, raise_limits

SIZES = (10, 100, 1_000, 10_000)
PER_UPSTREAM = 10
INTERVAL = 10  # seconds between two checks of a backend
RELOAD_LIMIT = 50  # ms that a reload may delay a request
# Number of scrapes and reloads for each size. In a new process the first few wait while the kernel clears memory.
TURNS = 9
PIECE = bytearray(1 << 18)  # buffer for the bytes of a response


def document(size, ports, origin, weight=1):
    """Makes a tenth as many hosts and upstreams as routes and backends. `weight` is the weight of the last backend."""
    groups = max(size // PER_UPSTREAM, 1)
    routes = (f"  - {{ name: r{n}, match: {{ hosts: [h{n % groups}.example.com], path_prefix: /p{n // groups} }}, upstream: u{n % groups} }}" for n in range(size))
    return "\n".join([
        "server: { threads: 1, upstream_idle_connections: 20000 }", "log: { level: warn }", "access_log: { path: off }",
        f"admin: {{ address: 127.0.0.1:{ports['admin']} }}", f"listeners: [{{ name: web, address: 127.0.0.1:{ports['web']} }}]",
        "routes:", *routes, "upstreams:", *(upstream(group, origin, weight if group == groups - 1 else 1) for group in range(groups))]) + "\n"


def upstream(group, origin, weight):
    members = []
    for n in range(group * PER_UPSTREAM, (group + 1) * PER_UPSTREAM):
        last = weight if n % PER_UPSTREAM == PER_UPSTREAM - 1 else 1
        members.append(f"{{ name: b{n}, address: 127.1.{n // 250}.{n % 250 + 1}:{origin}, weight: {last} }}")
    return (f"  u{group}: {{ balance: weighted_round_robin, health_check: {{ http: {{ path: /healthz }}, interval: {INTERVAL}s }}, "
            f"backends: [{', '.join(members)}] }}")


class Weir:
    """One Weir with the given number of backends."""

    def __init__(self, stage, binary, size, origin):
        self.stage, self.size, self.origin = stage, size, origin
        self.ports = {"web": free_port(), "admin": free_port()}
        self.file = stage.folder / f"weir-{size}.yaml"
        self.write(1)
        started = time.monotonic()
        self.process = stage.start(f"weir-{size}", stage.core, [binary, "run", "-c", self.file], self.ports["web"])
        until("weir is ready", lambda: "\nready" in "\n" + self.process.said())
        self.ready = time.monotonic() - started
        until("every backend has a verdict", lambda: self.ask("GET", "/readyz")[0] == 200)
        self.verdicts = time.monotonic() - started

    def write(self, weight):
        self.file.write_text(document(self.size, self.ports, self.origin, weight))

    def ask(self, method, path):
        """Returns the status, the size of the body and the duration in seconds."""
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=120)
        connection.request(method, path, body="{}" if method == "POST" else None, headers={"Content-Type": "application/json"})
        answer, size = connection.getresponse(), 0
        # The body is discarded. A client that collects 53 MB takes half as long again, which is not the cost of Weir.
        while got := answer.readinto(PIECE):
            size += got
        return answer.status, size, time.monotonic() - started

    def reload(self, weight):
        self.write(weight)
        status, _, took = self.ask("POST", "/api/v1/reload")
        if status != 200:
            sys.exit(f"scale: a reload was refused with {status}:\n{self.process.said()[-2000:]}")
        return took

    def traffic_cpu(self):
        """Returns the CPU seconds of the traffic threads. Health checks and scrapes run on other threads."""
        ran = 0
        for task in pathlib.Path("/proc", str(self.process.process.pid), "task").iterdir():
            if (task / "comm").read_text().startswith("weir-traffic"):
                ran += int((task / "schedstat").read_text().split()[0])
        return ran / 1e9

    def cost(self, seconds, script):
        load.wrk(self.stage, self.ports["web"], 1, script=script)
        before = self.traffic_cpu()
        done = load.wrk(self.stage, self.ports["web"], seconds, script=script)
        return (self.traffic_cpu() - before) / done.requests * 1e6


def until(what, holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"scale: not within {seconds} s: {what}")
        time.sleep(0.005)


def one_host(size):
    return f'wrk.headers["Host"] = "h{size // PER_UPSTREAM // 2}.example.com"\nwrk.path = "/p3/0.1k"\n'


def all_hosts(size):
    """Requests all hosts, in steps so large that no cache line is still warm."""
    hosts = max(size // PER_UPSTREAM, 1)
    return f"""local n = 0
request = function()
  n = (n + 377) % {hosts}
  return "GET /p3/0.1k HTTP/1.1\\r\\nHost: h" .. n .. ".example.com\\r\\n\\r\\n"
end
"""


def start_origin(stage):
    """Starts one nginx on all of 127.0.0.0/8. It writes the times of health checks to a file."""
    port = free_port()
    server = f"""
    log_format when "$msec";
    server {{
        listen 0.0.0.0:{port} backlog=16384; keepalive_requests 1000000000; keepalive_timeout 1h;
        location / {{ return 200 "{'x' * 100}"; }}
        location = /healthz {{ access_log {stage.folder}/checks.log when; return 200 "ok"; }}
    }}"""
    stage.start("origin", stage.load_cores, contestants.nginx_command(stage.folder, "origin", server), port)
    return port


def measure(weir, seconds):
    rss, scrapes = weir.process.rss(), [weir.ask("GET", "/metrics") for _ in range(TURNS)]
    return {"ready": weir.ready * 1e3, "verdicts": weir.verdicts * 1e3, "rss": rss,
            "scrape": statistics.median(took for *_, took in scrapes) * 1e3, "bytes": scrapes[-1][1],
            "reload": statistics.median(weir.reload(2 + turn) for turn in range(TURNS)) * 1e3,
            "hot": weir.cost(seconds, one_host(weir.size)), "all": weir.cost(seconds, all_hosts(weir.size))}


def spread(folder, seconds):
    """Returns the mean, minimum and maximum of health checks per second."""
    log = folder / "checks.log"
    begin = time.time()
    time.sleep(seconds + 1)
    when = (float(line) for line in log.read_text().split() if float(line) >= begin)
    counts = collections.Counter(int(at - begin) for at in when)
    counts = [counts[second] for second in range(seconds)]
    return {"mean": statistics.mean(counts), "least": min(counts), "most": max(counts)}


def under_reloads(weir, seconds, rate):
    """Returns the slowest request and p99, without and with reloads one after another."""
    def steady():
        return load.h2load(weir.stage, weir.ports["web"], seconds, "--h1", path="/p0/x", host="h0.example.com", rate=rate)

    still, took, over = steady(), [], threading.Event()

    def reloads():
        while not over.is_set():
            took.append(weir.reload(2 + len(took) % 100))

    thread = threading.Thread(target=reloads)
    thread.start()
    busy = steady()
    over.set()
    thread.join()
    return {"still": still.worst, "still_p99": still.p99, "busy": busy.worst, "busy_p99": busy.p99, "reloads": len(took), "rate": rate}


COLUMNS = {"ready": ("ms to `ready`", ",.0f"), "verdicts": ("ms to all first checks", ",.0f"), "rss": ("RSS MiB", ".0f"), "reload": ("reload ms", ",.0f"),
           "scrape": ("scrape ms", ",.0f"), "bytes": ("scrape bytes", ",d"), "hot": ("CPU µs/request, one host", ".1f"),
           "all": ("CPU µs/request, all hosts", ".1f")}


def table(results):
    lines = ["| routes and backends | " + " | ".join(title for title, _ in COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for size, row in results["sizes"].items():
        lines.append(f"| {size:,} | " + " | ".join(format(row[key], form) for key, (_, form) in COLUMNS.items()) + " |")
    checks, reloads = results.get("checks"), results.get("reloads")
    if checks:
        lines.append(f"\nChecks of {max(results['sizes']):,} backends every {INTERVAL} s: {checks['mean']:,.0f} a second, "
                     f"in each second between {checks['least']:,} and {checks['most']:,}.")
    if reloads:
        lines.append(f"\nAt {reloads['rate']:,.0f} requests/s: the slowest took {reloads['still']:.1f} ms (p99 {reloads['still_p99']:.2f}); "
                     f"during {reloads['reloads']} reloads, one after another, {reloads['busy']:.1f} ms (p99 {reloads['busy_p99']:.2f}).")
    return "\n".join(lines)


def faults(results):
    """Returns the values that grew too much. A third is allowed for noise."""
    rows = list(results["sizes"].items())
    for (small, before), (large, after) in zip(rows, rows[1:]):
        for key in ("ready", "rss", "reload", "scrape", "bytes"):
            if after[key] > before[key] * large / small * 1.33:
                yield f"{COLUMNS[key][0]} grew from {before[key]:,.0f} to {after[key]:,.0f} from {small:,} to {large:,}"
    if rows[-1][1]["hot"] > rows[0][1]["hot"] * 1.33:
        yield f"a request on one host costs {rows[-1][1]['hot']:.1f} µs at {rows[-1][0]:,}, {rows[0][1]['hot']:.1f} at {rows[0][0]:,}"
    reloads = results.get("reloads")
    if reloads and reloads["busy"] > max(reloads["still"], RELOAD_LIMIT):
        yield f"a request took {reloads['busy']:.0f} ms during a reload, {reloads['still']:.0f} without"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="by commas, in ascending order")
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement of requests; three times that under reloads")
    parser.add_argument("--rate", type=float, default=1000, help="requests/s under reloads")
    parser.add_argument("--core", default="0", help="of weir")
    parser.add_argument("--load-cores", default="1", help="of load and backends")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/dist/weir")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--write", metavar="PAGE", help="put the table into the page's section `scale`")
    options = parser.parse_args()
    options.sizes = [int(size) for size in options.sizes.split(",")]
    return options


def run(options, stage):
    origin, results = start_origin(stage), {"sizes": {}}
    for size in options.sizes:
        weir = Weir(stage, options.binary, size, origin)
        results["sizes"][size] = measure(weir, options.seconds)
        if size == options.sizes[-1]:
            results["reloads"] = under_reloads(weir, options.seconds * 3, options.rate)
            # Reloads keep the schedule of health checks. The steady state after them is counted.
            results["checks"] = spread(stage.folder, INTERVAL * 2)
        stage.end(weir.process)
    return results


def main():
    options = arguments()
    raise_limits()
    with tempfile.TemporaryDirectory(prefix="weir-scale-") as folder, Stage(pathlib.Path(folder), options.core, options.load_cores) as stage:
        results = run(options, stage)
    text = table(results)
    print(text)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=2) + "\n")
    if options.write:
        command = shlex.join(["make", "bench-scale"])
        report.write(options.write, "scale", f"{text}\n\n{report.today()}, {machine()}; weir {contestants.version('weir')} on one core. `{command}`")
    wrong = list(faults(results))
    for fault in wrong:
        print(f"scale: {fault}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
