#!/usr/bin/env python3
"""test.py WEIR: tests dashboards and rules with a real Prometheus that scrapes a real weir under load.

Without WEIR it runs only the checks that need no process. It needs prometheus and promtool. All its processes listen on loopback ports
that the kernel picks, write to a folder of their own, and end with the script. It takes about half a minute.
"""
import http.client
import http.server
import json
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import build

HERE = pathlib.Path(__file__).resolve().parent
PROMETHEUS = HERE / "prometheus"
RULES = sorted(PROMETHEUS.glob("rules/*.yml"))
# Expressions that may have no data, and the reason. It is empty: the load below produces data for every panel.
MAY_BE_EMPTY = {}
# Alerts without `for` that the load below must fire.
MUST_FIRE = {"WeirConnectionsRefused"}
# Alerts with a `for` that is longer than the load: the load must make them wait for it.
MUST_BE_PENDING = {"WeirFailingOpen"}
BACKENDS = {"a": 5, "b": 3, "c": 1}
DEADLINE = 25

passed, failed = 0, []


def check(name, ok, detail=""):
    global passed
    if ok:
        passed += 1
    else:
        failed.append(name)
        print(f"FAILED {name}: {detail}" if detail else f"FAILED {name}", flush=True)
    return ok


def command(name, *arguments, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, **options)
    check(name, done.returncode == 0, (done.stdout + done.stderr).strip())


# Checks without a process ------------------------------------------------------------------------------------------------


def dashboards():
    return {path.name: json.loads(path.read_text()) for path in sorted((HERE / "dashboards").glob("*.json"))}


def check_dashboards():
    rendered = build.rendered()
    check("dashboards: the folder has what build.py writes", set(rendered) == set(dashboards()), sorted(dashboards()))
    for name, text in rendered.items():
        check(f"{name}: as build.py writes it", (HERE / "dashboards" / name).read_text() == text, "run grafana/build.py")
    boards = dashboards()
    check("dashboards: a uid each", len({board["uid"] for board in boards.values()}) == len(boards))
    for name, board in boards.items():
        panels = board["panels"]
        check(f"{name}: an id each", len({panel["id"] for panel in panels}) == len(panels))
        cells = [(panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y) for panel in panels
                 for x in range(panel["gridPos"]["w"]) for y in range(panel["gridPos"]["h"])]
        check(f"{name}: no panel over another", len(cells) == len(set(cells)))
        check(f"{name}: within 24 columns", all(x < 24 for x, _ in cells))
        for panel in panels:
            if panel["type"] == "row":
                continue
            title = f"{name}: {panel['title']}"
            check(f"{title}: has a description", bool(panel["description"]))
            check(f"{title}: has a unit and thresholds", all(panel["fieldConfig"]["defaults"].get(k) for k in ("unit", "thresholds")))
            check(f"{title}: asks the chosen data source", panel["datasource"]["uid"] == "${datasource}" and panel["targets"])
            check(f"{title}: has legends", panel["type"] == "table" or all(t["legendFormat"] for t in panel["targets"]))


def check_rules():
    alerts = "".join(path.read_text() for path in RULES)
    tests = "".join(path.read_text() for path in sorted(PROMETHEUS.glob("tests/*.yml")))
    manual = (HERE.parent / "docs/operations.md").read_text()
    for block in alerts.split("- alert: ")[1:]:
        name = block.split()[0]
        for part in ("severity:", "summary:", "description:", "runbook:", "runbook_url:"):
            check(f"{name}: has {part[:-1]}", part in block)
        check(f"{name}: runbook_url leads to its section", f'/operations.md#{name.lower()}"' in block and f"\n### {name}\n" in manual)
        check(f"{name}: a case that fires", f"- name: {name} fires" in tests)
        check(f"{name}: a case that is quiet", f"- name: {name} is quiet" in tests)
    command("promtool check config", "promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    command("promtool check rules", "promtool", "check", "rules", *RULES)
    command("promtool test rules", "promtool", "test", "rules", *sorted(PROMETHEUS.glob("tests/*.yml")))


# Backends --------------------------------------------------------------------------------------------------------------


class Origin(http.server.BaseHTTPRequestHandler):
    """A backend in a process of its own, so that it can be killed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.endswith("/slow"):
            time.sleep(0.2)
        kind, grpc = {"/call": ("application/grpc", "14"), "/events": ("text/event-stream", None)}.get(self.path[4:], (None, None))
        if self.path.endswith("/reset"):
            self.close_connection = True
            return
        body = b"{}" * random.randrange(1, 200)
        self.send_response(503 if self.path.endswith("/flaky") and random.random() < 0.5 else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-tokens", "3")
        if kind:
            self.send_header("content-type", kind)
        if grpc:
            self.send_header("grpc-status", grpc)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def origin(port):
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    http.server.ThreadingHTTPServer.daemon_threads = True
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Origin).serve_forever()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Test setup ------------------------------------------------------------------------------------------------------------


class Scene:
    """Backends, weir and Prometheus in a folder of their own. The end of the `with` ends these processes and no others."""

    def __init__(self, weir):
        self.weir_path = str(pathlib.Path(weir).resolve())
        self.folder = tempfile.TemporaryDirectory(prefix="weir-grafana-")
        self.path = pathlib.Path(self.folder.name)
        self.processes, self.ports = [], {}
        self.stop = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.folder.cleanup()

    def start(self, name, *arguments):
        with open(self.path / f"{name}.log", "ab") as log:
            process = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.path)
        self.processes.append(process)
        return process

    def log(self, name):
        return (self.path / f"{name}.log").read_text(errors="replace")

    def start_origin(self, name):
        self.ports.setdefault(name, free_port())
        return self.start(f"origin-{name}", sys.executable, __file__, "--origin", self.ports[name])

    def start_store(self):
        self.ports["store"] = free_port()
        self.start("store", "redis-server", "--port", self.ports["store"], "--bind", "127.0.0.1", "--save", "")

    def write_config(self, weight=1, broken=False):
        backends = "\n".join(f"      - {{ name: {n}, address: 127.0.0.1:{self.ports[n]}, weight: {weight if n == 'c' else w} }}"
                             for n, w in BACKENDS.items())
        health = "{ http: { path: /healthz }, interval: 300ms, timeout: 200ms, rise: 1, fall: 2 }"
        (self.path / "found.yaml").write_text(f"- address: 127.0.0.1:{self.ports['a']}\n")
        (self.path / "weir.yaml").write_text(f"""
server: {{ threads: 2, shutdown_grace: 1s, state_dir: state }}
admin: {{ address: 127.0.0.1:0 }}
access_log: {{ path: access.log }}
listeners:
  - name: web
    address: 127.0.0.1:0
    timeouts: {{ header: 1s }}
    limits: {{ connections: 60 }}
  - name: secure
    address: 127.0.0.1:0
    tls:
      certificates: [{{ cert: edge.pem, key: edge.key }}]
      # No server listens there, so its orders fail.
      acme: {{ names: [never.test.example], directory: "https://127.0.0.1:1/dir", directory_ca: edge.pem }}
stores: {{ fleet: {{ redis: "redis://127.0.0.1:{self.ports["store"]}", timeout: 1s }} }}
rate_limits:
  hello: {{ rate: 5/1s, key: client, shared: {{ store: fleet }} }}
  tokens: {{ rate: 1000/1s, cost: {{ response_header: x-tokens }} }}
routes:
  - name: api
    match: {{ path_prefix: /api }}
    rate_limits: [tokens]
    upstream: {"nowhere" if broken else "api"}
    retry: {{ attempts: 3, when: [connect, reset, 503] }}
  - {{ name: lone, match: {{ path_prefix: /lone }}, upstream: lone }}
  - {{ name: narrow, match: {{ path_prefix: /narrow }}, upstream: narrow }}
  - {{ name: hello, match: {{ path: /hello }}, respond: {{ status: 200, body: hello }}, rate_limits: [hello] }}
upstreams:
  api:
    balance: weighted_round_robin
    outlier: off            # only the health check decides, so that each phase of this run tests one thing
    health_check: {health}
    backends:
{backends}
  lone:
    health_check: {health}
    backends: [{{ name: lone, address: 127.0.0.1:{self.ports["lone"]} }}]
  found: {{ discover: {{ file: found.yaml }} }}
  narrow:
    max_in_flight: 1
    queue: {{ size: 2, timeout: 300ms }}
    backends: [{{ name: narrow, address: 127.0.0.1:{self.ports["a"]} }}]
""")

    def make_certificate(self):
        command("a certificate", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                "365", "-subj", "/CN=localhost", "-keyout", self.path / "edge.key", "-out", self.path / "edge.pem")

    def start_weir(self):
        self.make_certificate()
        self.write_config()
        self.weir = self.start("weir", self.weir_path, "run", "-c", self.path / "weir.yaml")
        wait("weir says ready", lambda: re.search(r"\bready\b", self.log("weir")) or self.weir.poll() is not None, 15)
        found = dict(re.findall(r"\blistening (\S+) (\S+:\d+)", self.log("weir")))
        if not {"web", "admin"} <= set(found):
            raise RuntimeError(f"weir did not start:\n{self.log('weir')}")
        self.web, self.admin = found["web"], found["admin"]

    def start_prometheus(self):
        """Starts Prometheus with the shipped example and three changes: the interval, the target and the path of the rules."""
        text = (PROMETHEUS / "prometheus.yml").read_text()
        for old, new in (("scrape_interval: 15s", "scrape_interval: 1s"), ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                         ("127.0.0.1:9180", self.admin), ("rules/*.yml", f"{PROMETHEUS}/rules/*.yml")):
            if text.count(old) != 1:
                raise RuntimeError(f"prometheus.yml: expected one {old!r}")
            text = text.replace(old, new)
        (self.path / "prometheus.yml").write_text(text)
        self.prometheus = f"127.0.0.1:{free_port()}"
        self.start("prometheus", "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn",
                   f"--web.listen-address={self.prometheus}")
        wait("Prometheus is ready", lambda: fetch(f"http://{self.prometheus}/-/ready") is not None, 20)

    def reload(self, **config):
        self.write_config(**config)
        self.weir.send_signal(signal.SIGHUP)

    def ask(self, path, **query):
        text = fetch(f"http://{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        return json.loads(text)["data"] if text else None


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.read().decode()
    except OSError:
        return None


def wait(what, done, seconds):
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def load(scene):
    """Sends requests of every kind in a loop, at a moderate rate. Some of them fail on purpose."""
    connection, paths = None, ["/api/x", "/api/x", "/api/flaky", "/api/slow", "/api/reset", "/api/call", "/api/events", "/lone", "/hello", "/nothing",
                         "/narrow/slow", "/narrow/slow", "/narrow/slow"]
    while not scene.stop.is_set():
        time.sleep(0.01)
        try:
            if connection is None:
                connection = http.client.HTTPConnection(scene.web, timeout=5)
            post = random.random() < 0.3
            connection.request("POST" if post else "GET", random.choice(paths), body=b'{"n":1}' * 50 if post else None)
            if random.random() < 0.05:
                connection.close()
                connection = None
                continue
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            if connection:
                connection.close()
            connection = None


def crowd(scene):
    """Opens more connections than the listener accepts, one of them with half a head: refused connections and a timeout."""
    host, port = scene.web.rsplit(":", 1)
    crowd = []
    try:
        for _ in range(80):
            crowd.append(socket.create_connection((host, int(port)), timeout=2))
        crowd[0].sendall(b"GET / HTTP/1.1\r\nHost:")
        time.sleep(1.5)
    except OSError:
        pass
    for member in crowd:
        member.close()


def expressions():
    """Name → expression, with variables replaced as Grafana does. The repeated row appears once for each backend."""
    common = {"$job": "weir", "$instance": ".*", "$upstream": ".*", "$route": ".*", "$__rate_interval": "10s", "$__range": "30s"}
    for name, board in dashboards().items():
        repeated = False
        for panel in board["panels"]:
            if panel["type"] == "row":
                repeated = bool(panel.get("repeat"))
                continue
            for backend in BACKENDS if repeated else [".*"]:
                for target in panel["targets"]:
                    expr = target["expr"]
                    for key, value in (common | {"$backend": backend}).items():
                        expr = expr.replace(key, value)
                    suffix = f" ({backend})" if repeated else ""
                    yield f"{name}: {panel['title']} {target['refId']}{suffix}", expr
    for path in RULES:
        for record in re.findall(r"- record: (\S+)", path.read_text()):
            yield f"{path.name}: {record}", record


def has_data(result):
    return bool(result) and any(sample["value"][1] != "NaN" for sample in result["result"])


def check_queries(scene):
    pending, last = dict(expressions()), {}
    names, until = list(pending), time.monotonic() + DEADLINE
    # Rates need two scrapes after an event. Expressions without data are evaluated again.
    while pending and time.monotonic() < until:
        for name, expr in list(pending.items()):
            last[name] = scene.ask("query", query=expr)
            if has_data(last[name]):
                del pending[name]
        time.sleep(0.5)
    for name in names:
        check(f"{name}: returns data", name not in pending or name in MAY_BE_EMPTY, f"{pending.get(name)} gave {last[name]}")
    for name, board in dashboards().items():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
                values = scene.ask(f"label/{match[2]}/values", **{"match[]": re.sub(r'"\$\w+"', '".*"', match[1])})
                check(f"{name}: ${variable['name']} has values", values, variable["definition"])


def check_live_rules(scene):
    rules = [rule for group in scene.ask("rules")["groups"] for rule in group["rules"]]
    shipped = sum(path.read_text().count("- alert: ") + path.read_text().count("- record: ") for path in RULES)
    check("rules: all are loaded", len(rules) == shipped, f"{len(rules)} of {shipped}")
    for rule in rules:
        check(f"{rule['name']}: is evaluated", rule["health"] == "ok", rule.get("lastError", ""))
    for name in sorted(MUST_FIRE):
        firing = scene.ask("query", query=f'ALERTS{{alertname="{name}",alertstate="firing"}}')
        check(f"{name}: fires here", has_data(firing))
    for name in sorted(MUST_BE_PENDING):
        pending = scene.ask("query", query=f'ALERTS{{alertname="{name}",alertstate="pending"}}')
        check(f"{name}: is pending here", has_data(pending))


def check_live(weir):
    with Scene(weir) as scene:
        origins = {name: scene.start_origin(name) for name in [*BACKENDS, "lone"]}
        for name in origins:
            wait(f"origin {name}", lambda: fetch(f"http://127.0.0.1:{scene.ports[name]}/healthz") is not None, 10)
        scene.start_store()
        scene.start_weir()
        scene.start_prometheus()
        for _ in range(6):
            threading.Thread(target=load, args=(scene,), daemon=True).start()
        time.sleep(3)
        # Typical incidents: backends die, one comes back, a configuration is wrong, too many clients connect.
        for name in ("b", "lone"):
            origins[name].kill()
        time.sleep(2)
        scene.reload(broken=True)
        crowd(scene)
        scene.start_origin("b")
        time.sleep(1)
        scene.reload(weight=2)
        time.sleep(3)
        crowd(scene)
        metrics = fetch(f"http://{scene.admin}/metrics") or ""
        command("promtool check metrics", "promtool", "check", "metrics", input=metrics)
        check_queries(scene)
        check_live_rules(scene)
        if failed:
            print(f"weir said:\n{scene.log('weir')[-4000:]}\nPrometheus said:\n{scene.log('prometheus')[-2000:]}")


def main():
    if sys.argv[1:2] == ["--origin"]:
        return origin(int(sys.argv[2]))
    # A signal ends the script through the same path, so that no process remains.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    check_dashboards()
    check_rules()
    if len(sys.argv) > 1:
        try:
            check_live(sys.argv[1])
        except RuntimeError as problem:
            check("the scene", False, problem)
    else:
        print("grafana: no weir binary named: only what needs none was checked")
    print(f"grafana: {passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
