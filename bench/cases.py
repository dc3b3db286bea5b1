"""The cases of the benchmark. A case is a kind of request and the load generator that sends it."""
import dataclasses
from typing import Callable

import load


@dataclasses.dataclass(frozen=True)
class Case:
    """`run(stage, port, seconds, connections)` runs the load. `unit` is the name of one request."""

    title: str
    run: Callable
    front: str = "http"
    unit: str = "request"
    websocket: bool = False
    buffering_matters: bool = False


def wrk(**options):
    return lambda stage, port, seconds, connections: load.wrk(stage, port, seconds, **{"connections": connections, **options})


def multiplexed(stage, port, seconds, connections):
    """Sends as many requests at once as with HTTP/1.1, on an eighth of the connections."""
    return load.h2load(stage, port, seconds, "-m8", connections=max(connections // 8, 1))


def websocket(stage, port, seconds, connections):
    return load.websocket(stage, port, seconds, connections)


def handshakes(resumed):
    return lambda stage, port, seconds, _connections: load.handshakes(stage, port, seconds, resumed)


CASES = {
    "get": Case("Small GET", wrk()),
    "post": Case("POST of 1 KiB", wrk(path="/post", body=1024)),
    "100k": Case("Response of 100 KiB", wrk(path="/100k"), buffering_matters=True),
    "10m": Case("Response of 10 MiB, four connections", wrk(path="/10m", connections=4), buffering_matters=True),
    "close": Case("New connection for each request", wrk(headers=["Connection: close"])),
    "h2c": Case("HTTP/2, eight requests at once on each connection", multiplexed, front="h2c"),
    "websocket": Case("WebSocket, messages of 128 bytes and their echoes", websocket, unit="message", websocket=True),
    "tls": Case("Small GET over TLS", wrk(scheme="https"), front="tls"),
    "handshake": Case("Full TLS handshake and a small GET", handshakes(False), front="tls", unit="handshake"),
    "resumed": Case("Resumed TLS handshake and a small GET", handshakes(True), front="tls", unit="handshake"),
}
FILES = {"0.1k": 100, "100k": 100 << 10, "10m": 10 << 20}
