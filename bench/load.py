"""Load generators. Each runs once against a local port and returns the number, the rate and the durations of requests."""
import dataclasses
import re
import statistics
import subprocess
import sys

from processes import ROOT

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclasses.dataclass
class Load:
    """Times are in milliseconds. None if the generator does not report them."""

    requests: int
    rate: float
    p50: float = None
    p99: float = None
    worst: float = None


def pinned(cores, seconds, *command):
    """Returns the output of a generator. Its time limit is about double: h2load never ends if every connection was closed."""
    try:
        return subprocess.run(["taskset", "-c", cores, *map(str, command)], capture_output=True, text=True, timeout=2 * seconds + 20).stdout
    except subprocess.TimeoutExpired as stuck:
        fail(f"it did not end: {' '.join(map(str, command))}\n{(stuck.stdout or b'').decode(errors='replace')}")


def fail(said):
    sys.exit(f"bench: requests failed, the numbers would be of errors:\n{said[-2000:]}")


def wrk(stage, port, seconds, path="/0.1k", body=0, connections=32, headers=(), scheme="http", script=None):
    """HTTP/1.1 in a closed loop. `script` is the text of a Lua script that replaces the one made from `body`."""
    lua = stage.folder / "wrk.lua"
    lua.write_text(script or (f'wrk.method = "POST"\nwrk.body = string.rep("x", {body})\n' if body else ""))
    named = [word for header in headers for word in ("-H", header)]
    said = pinned(stage.load_cores, seconds, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", lua, *named,
                  f"{scheme}://127.0.0.1:{port}{path}")
    counted = re.search(r"(\d+) requests in", said)
    # With one connection per request, wrk counts connections that it has just opened as errors at the end of the run.
    if not counted or counted[1] == "0" or re.search(r"Non-2xx or 3xx responses: \d+", said) or ("Socket errors" in said and not headers):
        fail(said)

    def quantile(percent):
        value, unit = re.search(rf"^ +{percent}% +([\d.]+)(\w+)", said, re.M).groups()
        return float(value) * SECONDS[unit] * 1e3

    return Load(int(counted[1]), float(re.search(r"Requests/sec: +([\d.]+)", said)[1]), quantile(50), quantile(99))


def h2load(stage, port, seconds, *options, path="/0.1k", host="127.0.0.1", connections=32, rate=None):
    """HTTP/2 unless an option is `--h1`. A rate (requests/s of all connections together) makes it an open loop."""
    log = stage.folder / "h2load.log"
    log.unlink(missing_ok=True)
    pace = ["--rps", f"{rate / connections:.4f}"] if rate else []
    said = pinned(stage.load_cores, seconds, "h2load", "-t1", f"-c{connections}", f"-D{seconds}", f"--log-file={log}",
                  f"--connect-to=127.0.0.1:{port}", *pace, *options, f"http://{host}{path}")
    counted = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, \d+ failed, (\d+) errored", said)
    if not counted or counted[2] != counted[1] or counted[3] != "0" or counted[1] == "0":
        fail(said)
    waits = sorted(int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines())
    done = int(counted[2])
    return Load(done, done / seconds, statistics.median(waits), waits[len(waits) * 99 // 100], waits[-1])


def websocket(stage, port, seconds, connections=32, rate=None):
    """Messages of 128 bytes and their echoes, one at a time on each connection."""
    said = pinned(stage.load_cores, seconds, ROOT / "target/bench/release/ws", "load", f"127.0.0.1:{port}", connections, seconds, *([rate] if rate else []))
    fields = said.split()
    if len(fields) != 5 or fields[0] == "0" or fields[4] != "0":
        fail(f"ws load: {said}")
    messages, took, p50, p99 = (float(field) for field in fields[:4])
    return Load(int(messages), messages / took, p50 / 1e3, p99 / 1e3)


def handshakes(stage, port, seconds, resumed, clients=8):
    """TLS handshakes, each with one small GET on its own connection, in a closed loop, one at a time for each client."""
    said = pinned(stage.load_cores, seconds, ROOT / "target/bench/release/tls", f"127.0.0.1:{port}", clients, seconds,
                  "resumed" if resumed else "full", "/0.1k")
    fields = said.split()
    if len(fields) != 4 or not fields[0].isdigit() or fields[0] == "0":
        fail(f"tls: {said}")
    done, took, p50, p99 = (float(field) for field in fields)
    return Load(int(done), done / took, p50 / 1e3, p99 / 1e3)
