"""Measures the memory of a process at its start and with thousands of idle keep-alive connections."""
import contextlib
import socket
import statistics
import time

import compare
import origins
from steady import without_variants

REQUEST = b"GET /0.1k HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Seconds until allocators and event loops are idle.
REST = 1.5


def run(stage, options, _key):
    """Each round starts every proxy again. Memory left from an earlier round would hide the cost of a connection."""
    backends, results = origins.http(stage), {}
    for turn in range(min(options.rounds, 3)):
        for name in without_variants(options.names):
            options.say(f"idle: round {turn + 1} {name}")
            there = compare.field(stage, options, backends, [name])
            if name in there:
                results.setdefault(name, []).append(held(*there[name], options.idle))
                stage.end(there[name][0])
    return results


def held(running, port, count):
    with contextlib.ExitStack() as stack:
        # The first request makes allocations that happen once. They must not count for the connections.
        ask(stack.enter_context(socket.create_connection(("127.0.0.1", port))))
        time.sleep(REST)
        at_start = running.rss()
        for _ in range(count):
            ask(stack.enter_context(socket.create_connection(("127.0.0.1", port))))
        time.sleep(REST)
        idle = running.rss()
    return {"start": at_start, "idle": idle, "bytes": (idle - at_start) * 2**20 / count, "connections": count}


def ask(connection):
    """Sends one request and reads the response to its end. The files are small enough to arrive almost at once."""
    connection.sendall(REQUEST)
    seen = b""
    while not seen.endswith(b"x" * 100):
        more = connection.recv(4096)
        if not more:
            raise SystemExit(f"bench: an idle connection was refused: {seen[:200]!r}")
        seen += more


def table(_key, results):
    count = next(iter(results.values()))[0]["connections"]
    lines = [f"| proxy | RSS MiB at 0 connections | at {count:,} idle | bytes/idle connection |", "|---|---|---|---|"]
    for name, measured in results.items():
        middle = {key: statistics.median(each[key] for each in measured) for key in measured[0]}
        lines.append(f"| {name} | {middle['start']:.1f} | {middle['idle']:.1f} | {middle['bytes']:,.0f} |")
    return "\n".join(lines)
