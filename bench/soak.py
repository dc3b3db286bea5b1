#!/usr/bin/env python3
"""Runs mixed traffic with reloads, killed backends and clients that abort, then checks that all resources are as before.

The traffic comes in cycles of some seconds: GET and POST over HTTP/1.1, GET over HTTP/2, WebSocket messages, new connections, and clients
that leave in the middle of a head, a body or a response. In each cycle a backend is killed and comes back, and the configuration is
reloaded twice. After the first cycles, without load, the script records memory, descriptors and requests in flight. It compares them with
the values at the end. The exit status is 1 if Weir died, if it does not answer, or if a value did not return to its level.

Run `make soak SECONDS=3600`. The rate is low by default, because a leak shows by the number of requests, not by their rate.
"""
import argparse
import contextlib
import http.client
import os
import pathlib
import random
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter

import contestants
import report
from cases import FILES
from processes import ROOT, Stage, free_port, machine, raise_limits

TURN = 10  # seconds
WARM_UP = 3  # cycles at least; a tenth of the time if that is more
SETTLE = 60  # seconds until everything must be idle
# Allowed growth of memory after the warm-up: a share for fragmentation, and a constant for a small process.
SHARE, MIB = 0.15, 8
# Allowed difference of descriptors: the scrape itself, health checks in flight.
SPARE = 16


class Backends:
    """Three backend processes, so that one can be killed, and WebSocket echo servers."""

    def __init__(self, stage):
        self.stage, self.ports, self.running = stage, [free_port() for _ in range(3)], {}
        for name, size in FILES.items():
            (stage.folder / name).write_bytes(b"x" * size)
        for port in self.ports:
            self.start(port)
        self.echo = free_port()
        stage.start("echo", stage.load_cores, [ROOT / "target/bench/release/ws", "echo", f"127.0.0.1:{self.echo}"], self.echo)

    def start(self, port):
        server = f"server {{ listen 127.0.0.1:{port}; root {self.stage.folder}; location /post {{ return 201 stored; }} }}"
        command = contestants.nginx_command(self.stage.folder, f"backend-{port}", server)
        self.running[port] = self.stage.start(f"backend-{port}", self.stage.load_cores, command, port)

    def kill(self, port):
        self.running[port].signal(signal.SIGKILL)
        self.running[port].process.wait()
        self.stage.started.remove(self.running[port])


class Weir:
    def __init__(self, stage, binary, backends):
        self.backends, self.file = backends, stage.folder / "weir.yaml"
        self.web, self.second, self.admin = free_port(), free_port(), free_port()
        self.write(0)
        self.process = stage.start("weir", stage.core, [binary, "run", "-c", self.file], self.web)

    def write(self, turn):
        """Writes one of three configurations: other weights, one backend less, another listener and balancer."""
        members = [f"{{ name: b{n}, address: 127.0.0.1:{port}, weight: {1 + (n + turn) % 3} }}" for n, port in enumerate(self.backends.ports)]
        more = f", {{ name: second, address: 127.0.0.1:{self.second} }}" if turn % 3 == 2 else ""
        balance = "least_connections" if turn % 3 == 2 else "weighted_round_robin"
        self.file.write_text(f"""
server: {{ threads: 2 }}
log: {{ level: error }}
access_log: {{ path: /dev/null }}
admin: {{ address: 127.0.0.1:{self.admin} }}
listeners: [{{ name: web, address: 127.0.0.1:{self.web} }}{more}]
routes:
  - {{ name: all, upstream: all }}
  - {{ name: ws, match: {{ path: /ws }}, upstream: echo }}
upstreams:
  all:
    balance: {balance}
    keep_alive: 5s
    health_check: {{ http: {{ path: /0.1k }}, interval: 500ms, timeout: 500ms, rise: 1, fall: 2 }}
    backends: [{", ".join(members[:2] if turn % 3 == 1 else members)}]
  echo: {{ backends: [{{ name: echo, address: 127.0.0.1:{self.backends.echo} }}] }}
""")

    def reload(self, turn):
        self.write(turn)
        self.process.signal(signal.SIGHUP)

    def metrics(self):
        """Returns the sum of each metric family by name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=30)
        connection.request("GET", "/metrics")
        sums = {}
        for line in connection.getresponse().read().decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                family = name.split("{")[0]
                sums[family] = sums.get(family, 0) + float(value)
        connection.close()
        return sums

    def state(self):
        metrics = self.metrics()
        return {"rss": self.process.rss(), "descriptors": self.process.descriptors(), "requests": metrics["weir_requests_total"],
                "in_flight": metrics["weir_requests_in_flight"] + metrics.get("weir_backend_in_flight", 0),
                "connections": metrics["weir_listener_connections"], "panics": metrics["weir_panics_total"],
                "reloads": metrics["weir_config_reloads_total"]}

    def at_rest(self, descriptors=None):
        """Returns the state when nothing is in flight and few enough descriptors are open, or the state after the time limit."""
        until = time.monotonic() + SETTLE
        while True:
            time.sleep(1)
            state = self.state()
            quiet = not state["in_flight"] and not state["connections"] and (descriptors is None or state["descriptors"] <= descriptors)
            if quiet or time.monotonic() > until:
                return state


def generators(stage, weir, rate):
    """Returns the load generators. They start together and run for most of a cycle. Rates are requests/s over all connections."""
    url, seconds = f"http://127.0.0.1:{weir.web}", TURN - 3
    body = stage.folder / "1k"
    body.write_bytes(b"x" * 1024)

    def h2load(share, connections, *options, path="/0.1k"):
        return ["h2load", "-t1", f"-c{connections}", f"-D{seconds}", "--rps", f"{rate * share / connections:.3f}", *options, url + path]

    return {"GET": h2load(0.4, 8, "--h1"), "GET of 100 KiB": h2load(0.1, 4, "--h1", path="/100k"),
            "POST": h2load(0.2, 4, "--h1", f"-d{body}", path="/post"), "h2c": h2load(0.2, 2, "-m4"),
            "WebSocket": [ROOT / "target/bench/release/ws", "load", f"127.0.0.1:{weir.web}", 8, seconds, rate * 0.1]}


ABORTS = [b"GET /0.1k HTT", b"GET /0.1k HTTP/1.1\r\nHost: a\r\n", b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nxxxx",
          b"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", b"GET /10m HTTP/1.1\r\nHost: a\r\n\r\n",
          b"GET /0.1k HTTP/1.1\r\nHost: a\r\n\r\n" * 3, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"\0\1\2 nonsense\r\n\r\n"]


def break_off(port):
    """A client that sends bytes and leaves: at random with a reset, and at random after a part of the response."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        client.sendall(random.choice(ABORTS))
        client.settimeout(0.2)
        if random.random() < 0.5:
            client.recv(1000)
        if random.random() < 0.5:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def turn(stage, weir, backends, number, rate):
    """Runs one cycle and returns the failed responses of each generator."""
    running = {kind: subprocess.Popen(["taskset", "-c", stage.load_cores, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                      text=True)
               for kind, command in generators(stage, weir, rate).items()}
    began, victim = time.monotonic(), backends.ports[number % 3]
    steps = {1: lambda: weir.reload(number), 2: lambda: backends.kill(victim), 4: lambda: backends.start(victim), 5: lambda: weir.reload(number + 1)}
    while (passed := time.monotonic() - began) < TURN - 3:
        due = [at for at in steps if at <= passed]
        for at in due:
            steps.pop(at)()
        break_off(weir.web)
        time.sleep(0.05)
    for step in steps.values():
        step()
    return Counter({kind: failed(process) for kind, process in running.items()})


def failed(process):
    """Returns the failures of a generator. A generator whose connections were all closed never ends by itself."""
    try:
        said, _ = process.communicate(timeout=TURN)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    lost = re.fullmatch(r"\d+ [\d.]+ \d+ \d+ (\d+)\s*", said)
    return int(lost[1]) if lost else sum(int(count) for count in re.findall(r"(\d+) [45]xx", said))


def judge(before, after):
    limit = before["rss"] * (1 + SHARE) + MIB
    if after["rss"] > limit:
        yield f"memory: {after['rss']:.1f} MiB, {before['rss']:.1f} after warm-up, at most {limit:.1f} expected"
    if after["descriptors"] > before["descriptors"] + SPARE:
        yield f"descriptors: {after['descriptors']}, {before['descriptors']} after warm-up"
    if after["in_flight"] or after["connections"]:
        yield f"in flight: {after['in_flight']:.0f}, connections: {after['connections']:.0f}"
    if after["panics"]:
        yield f"panics: {after['panics']:.0f}"


def said(errors):
    """Describes how many requests failed, by kind."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in errors.items() if count)
    return f"{errors.total()} ({kinds})" if kinds else "0"


def line(number, passed, state, errors):
    print(f"{passed:6.0f} s, turn {number}: {state['requests']:,.0f} requests, {said(errors)} failed, {state['reloads']:.0f} reloads, "
          f"{state['rss']:.1f} MiB, {state['descriptors']} descriptors", flush=True)


def soak(options, stage):
    backends = Backends(stage)
    weir = Weir(stage, options.binary, backends)
    began, number, errors, before = time.monotonic(), 0, Counter(), None
    until = began + options.seconds
    warm = max(WARM_UP, options.seconds // TURN // 10)
    while before is None or time.monotonic() < until:
        errors += turn(stage, weir, backends, number, options.rate)
        number += 1
        if weir.process.process.poll() is not None:
            sys.exit(f"soak: weir ended with {weir.process.process.returncode}:\n{weir.process.said()[-4000:]}")
        if number == warm:
            before = weir.at_rest()
        if number % options.every == 0 or number == warm:
            line(number, time.monotonic() - began, before if number == warm else weir.state(), errors)
    after = weir.at_rest(before["descriptors"] + SPARE)
    line(number, time.monotonic() - began, after, errors)
    return before, after, errors, number


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--rate", type=float, default=300, help="requests and messages/s, all kinds together")
    parser.add_argument("--every", type=int, default=6, help="cycles between two lines")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/dist/weir")
    parser.add_argument("--write", metavar="PAGE", help="put the result into the page's section `soak`")
    options = parser.parse_args()
    contestants.add_binary("weir", options.binary)
    return options


def publish(options, before, after, errors, turns, verdict):
    rows = [("memory, MiB", "rss", ".1f"), ("descriptors", "descriptors", "d"), ("in flight", "in_flight", ".0f"), ("connections", "connections", ".0f")]
    text = "\n".join(["| at rest | after warm-up | at the end |", "|---|---|---|",
                      *(f"| {title} | {before[key]:{form}} | {after[key]:{form}} |" for title, key, form in rows)])
    command = shlex.join(["make", "soak", f"SECONDS={options.seconds}"])
    report.write(options.write, "soak", f"{text}\n\n{options.seconds:,} s, {turns} turns, {after['requests']:,.0f} requests, {said(errors)} of them failed while "
                 f"{turns} backends were killed, {after['reloads']:.0f} reloads: {verdict}. {report.today()}, {machine()}; weir {contestants.version('weir')}. "
                 f"`{command}`")


def main():
    options = arguments()
    contestants.helper("ws")
    raise_limits()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory(prefix="weir-soak-") as folder, Stage(pathlib.Path(folder), cores, cores) as stage:
        before, after, errors, turns = soak(options, stage)
    wrong = list(judge(before, after))
    verdict = "; ".join(wrong) if wrong else "everything came back to where it was"
    print(f"soak: {verdict}")
    if options.write:
        publish(options, before, after, errors, turns, verdict)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
