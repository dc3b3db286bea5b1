#!/usr/bin/env python3
"""Writes dashboards/*.json. Each panel is defined once here, so that a review reads expressions and not Grafana's JSON.

build.py          write the files
build.py --check  exit 1 if a file differs from what this would write
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
WIDTH = 24

# Every selector has these labels, so that one dashboard serves a fleet.
FLEET = 'job=~"$job",instance=~"$instance"'
UP = FLEET + ',upstream=~"$upstream"'
BACK = UP + ',backend=~"$backend"'
# Attempts that failed because of the backend. A client that left is not the backend's failure.
BAD = 'outcome!~"ok|client_abort"'

GREEN, YELLOW, ORANGE, RED = "green", "#EAB839", "orange", "red"
STATES = {"up": (1, GREEN), "unchecked": (2, "#8AB8FF"), "unknown": (3, "blue"), "draining": (4, YELLOW), "disabled": (5, "gray"),
          "ejected": (6, ORANGE), "unresolved": (7, "dark-red"), "down": (8, RED)}
# Backends that take traffic. One without a health check is `unchecked`; versions before that state was added report `up`.
SERVING = 'state=~"up|unchecked"'


def rate(metric, labels=FLEET):
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def total(by, expr):
    return f"sum by ({by}) ({expr})"


def quantile(q, metric, by="", labels=FLEET):
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({by}) ({rate(metric + '_bucket', labels)}))"


def ratio(part, whole):
    """part / whole. It is 0, not absent, while part has no series."""
    return f"({part} or 0 * {whole}) / {whole}"


def steps(*pairs):
    """steps(("green", None), ("red", 5)): each colour starts at its value."""
    return {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in pairs]}


class Dashboard:
    """A grid that fills from left to right. Panels get ids and positions in the order in which they are added."""

    def __init__(self, uid, title, description, variables):
        self.uid, self.title, self.description, self.variables = uid, title, description, variables
        self.panels, self.x, self.y, self.height, self.id = [], 0, 0, 0, 0

    def place(self, width, height):
        if self.x + width > WIDTH:
            self.x, self.y, self.height = 0, self.y + self.height, 0
        at = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.x, self.height = self.x + width, max(self.height, height)
        self.id += 1
        return at

    def row(self, title, repeat=None):
        self.x, self.y, self.height = 0, self.y + self.height, 0
        row = {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": self.place(WIDTH, 1), "id": self.id}
        if repeat:
            row |= {"repeat": repeat, "repeatDirection": "h"}
        self.panels.append(row)

    def panel(self, kind, title, description, targets, *, unit="short", width=8, height=8, thresholds=None, custom=None,
              options=None, mappings=None, overrides=None, transformations=None, minimum=0, maximum=None, decimals=None,
              instant=False, color=None):
        defaults = {"unit": unit, "thresholds": thresholds or steps((GREEN, None)), "mappings": mappings or [],
                    "custom": custom or {}, "color": color or {"mode": "palette-classic"}}
        defaults |= {k: v for k, v in (("min", minimum), ("max", maximum), ("decimals", decimals)) if v is not None}
        source = {"type": "prometheus", "uid": "${datasource}"}
        queries = []
        for ref, (expr, legend) in zip("ABCDEFGH", targets):
            queries.append({"refId": ref, "datasource": source, "editorMode": "code", "expr": expr, "legendFormat": legend,
                            "instant": instant, "range": not instant,
                            "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series")})
        self.panels.append({
            "type": kind, "title": title, "description": description, "datasource": source, "gridPos": self.place(width, height),
            "id": self.id, "targets": queries, "fieldConfig": {"defaults": defaults, "overrides": overrides or []},
            "options": options or {}, "transformations": transformations or [],
        })

    def lines(self, title, description, *targets, stack=False, line=None, table=False, **rest):
        """A graph over time. `line` draws a threshold at that value."""
        custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 25 if stack else 8, "showPoints": "never",
                  "stacking": {"mode": "normal" if stack else "none", "group": "A"},
                  "thresholdsStyle": {"mode": "dashed" if line is not None else "off"}}
        if line is not None:
            rest["thresholds"] = steps((GREEN, None), (RED, line))
        legend = {"displayMode": "table" if table else "list", "placement": "right" if table else "bottom", "showLegend": True,
                  "calcs": ["lastNotNull", "max"] if table else []}
        options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        self.panel("timeseries", title, description, targets, custom=custom, options=options, **rest)

    def number(self, title, description, expr, *, legend="", graph=True, width=4, height=4, text="auto", **rest):
        """One number, coloured by thresholds."""
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value",
                   "graphMode": "area" if graph else "none", "textMode": text, "justifyMode": "auto", "orientation": "auto"}
        self.panel("stat", title, description, [(expr, legend or title)], options=options, width=width, height=height,
                   color={"mode": "thresholds"}, **rest)

    def json(self):
        return {
            "uid": self.uid, "title": self.title, "description": self.description, "tags": ["weir"], "schemaVersion": 39,
            "version": 1, "editable": True, "graphTooltip": 1, "refresh": "10s", "time": {"from": "now-30m", "to": "now"},
            "timezone": "browser", "id": None, "annotations": {"list": []}, "fiscalYearStartMonth": 0, "liveNow": False,
            "links": [{"type": "dashboards", "title": "Weir", "tags": ["weir"], "asDropdown": False, "includeVars": True,
                       "keepTime": True, "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}],
            "templating": {"list": variables(self.variables)}, "panels": self.panels,
        }


def variables(names):
    """The data source, then a drop-down for each label. Each limits the choices of the next ones."""
    known = {
        "job": ("Job", "label_values(weir_build_info, job)"),
        "instance": ("Instance", 'label_values(weir_build_info{job=~"$job"}, instance)'),
        "upstream": ("Upstream", f"label_values(weir_backend_up{{{FLEET}}}, upstream)"),
        "backend": ("Backend", f"label_values(weir_backend_up{{{UP}}}, backend)"),
        "route": ("Route", f"label_values(weir_requests_total{{{FLEET}}}, route)"),
    }
    out = [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {},
            "hide": 0, "includeAll": False, "multi": False, "refresh": 1, "regex": "", "options": []}]
    for name in names:
        label, query = known[name]
        out.append({"name": name, "label": label, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "definition": query, "query": {"query": query, "refId": f"variable-{name}"}, "includeAll": True, "multi": True,
                    # `.*` also matches routes, upstreams and backends that are added later.
                    "allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, "refresh": 2,
                    "sort": 1, "hide": 0, "regex": "", "options": [], "skipUrlSync": False})
    return out


def fleet():
    d = Dashboard("weir-fleet", "Weir / Fleet", "What clients see of all instances, and what needs a hand.",
                  ["job", "instance", "route"])
    route = FLEET + ',route=~"$route"'
    requests = f"sum({rate('weir_requests_total', route)})"
    failed = route + ',status=~"5.."'
    grpc = route + ',grpc_status=~"UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS"'
    either = f"{rate('weir_requests_total', failed)} or {rate('weir_grpc_requests_total', grpc)}"
    errors = f"sum({either})"
    latency = "weir_request_duration_seconds"

    d.row("Now")
    d.number("Requests", "Requests finished per second.", requests, unit="reqps")
    d.number("Errors", "Share of requests that failed, Weir's own answers included: a 5xx status, or a gRPC status such as UNAVAILABLE.", ratio(errors, requests),
             unit="percentunit", decimals=2, thresholds=steps((GREEN, None), (YELLOW, 0.01), (RED, 0.05)))
    d.number("p99", "99 of 100 requests took less, from the first byte of the header to the last of the response.",
             quantile(0.99, latency, labels=route), unit="s", thresholds=steps((GREEN, None), (YELLOW, 0.5), (RED, 1)))
    d.number("In flight", "Requests under way now.", f"sum(weir_requests_in_flight{{{FLEET}}})")
    d.number("Backends out", "Backends that are neither up nor unchecked, whatever the reason, counted once an instance that says so.",
             f"count(weir_backend_up{{{FLEET}}}) - sum(weir_backend_state{{{FLEET},{SERVING}}})",
             thresholds=steps((GREEN, None), (YELLOW, 1), (RED, 3)))
    d.number("Instances", "Instances that Prometheus reaches, of those it should.", f"sum(up{{{FLEET}}})", graph=False,
             thresholds=steps((RED, None), (GREEN, 1)))

    d.row("Traffic")
    d.lines("Requests by status", "499: the client left before the answer.",
            (total("status", rate("weir_requests_total", route)), "{{status}}"), unit="reqps", stack=True)
    d.lines("Requests by route", "`-`: no route matched.", (total("route", rate("weir_requests_total", route)), "{{route}}"),
            unit="reqps")
    d.lines("Requests by method", "Methods that are not standard are counted as `other`.",
            (total("method", rate("weir_requests_total", route)), "{{method}}"), unit="reqps")
    d.lines("Latency", "Whole request, all routes shown; of WebSocket, event streams and gRPC up to the response header.",
            *[(quantile(q, latency, labels=route), f"p{round(q * 1000) / 10:g}") for q in (0.5, 0.9, 0.99, 0.999)], unit="s")
    d.lines("p99 by route", "The slowest route is on top of the list.", (quantile(0.99, latency, "route", route), "{{route}}"),
            unit="s", line=1)
    d.lines("gRPC calls by status", "How calls of gRPC ended. Their HTTP status is 200 whatever happened.",
            (total("grpc_status", rate("weir_grpc_requests_total", route)), "{{grpc_status}}"), unit="reqps", stack=True)
    d.lines("Streams", "Half of the WebSocket connections, event streams and gRPC calls that ended were shorter.",
            (quantile(0.5, "weir_stream_duration_seconds", "route", route), "{{route}}"), unit="s")
    d.panel("heatmap", "Latency spread", "How many requests fell into each bucket: two bands are two kinds of request.",
            [(total("le", rate(latency + "_bucket", route)), "{{le}}")], unit="s", minimum=None,
            options={"calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "reverse": False},
                     "yAxis": {"unit": "s", "axisPlacement": "left"}, "tooltip": {"mode": "single", "yHistogram": False},
                     "legend": {"show": True}, "rowsFrame": {"layout": "auto"}})

    d.row("Faults")
    whole = total("route", rate("weir_requests_total", route))
    part = total("route", either)
    d.lines("Errors by route", "Share of each route's requests that failed: a 5xx status, or a gRPC status such as UNAVAILABLE.", (ratio(part, whole), "{{route}}"),
            unit="percentunit", line=0.05)
    d.lines("Faults by kind", "Why requests were not served as asked. `client_abort` is the client's doing.",
            (total("fault", rate("weir_faults_total", route)), "{{fault}}"), unit="reqps", stack=True)
    d.lines("Fail-open", "Requests tried on backends that are down because too few were up: their health checks may be wrong.",
            (total("upstream", rate("weir_upstream_fail_open_total")), "{{upstream}}"), unit="reqps", line=0.001)

    d.row("Rate limits")
    d.lines("Decisions", "`limited` was answered with 429. `would_limit` is not enforced. `local`, `open` and `closed`: the store did not answer.",
            (total("limit, result", rate("weir_rate_limit_decisions_total")), "{{limit}} {{result}}"), unit="reqps")
    d.lines("Keys", "Buckets in memory of each instance. A limit with `keys` buckets shares one among the keys with the least debt.",
            (f"weir_rate_limit_keys{{{FLEET}}}", "{{instance}} {{limit}}"))
    d.lines("Costs", "Responses that state their cost. All but `stated` were charged their reservation, or more.",
            (total("limit, result", rate("weir_rate_limit_costs_total")), "{{limit}} {{result}}"), unit="reqps")
    d.lines("Requests to stores", "`skipped`: not asked, because the store has failed before.",
            (total("store, result", rate("weir_store_requests_total")), "{{store}} {{result}}"), unit="reqps")
    d.lines("Response time of stores", "A request waits for it, but no longer than `timeout`.",
            (quantile(0.5, "weir_store_response_seconds", "store"), "{{store}} p50"),
            (quantile(0.99, "weir_store_response_seconds", "store"), "{{store}} p99"), unit="s")

    d.row("Upstreams and listeners")
    d.lines("Backends up", "Share of each upstream's backends that take traffic: those that are up, and those without a health check.",
            (f"sum by (upstream) (weir_backend_state{{{FLEET},{SERVING}}}) / count by (upstream) (weir_backend_up{{{FLEET}}})",
             "{{upstream}}"), unit="percentunit", maximum=1)
    d.lines("Connections", "Client connections open now.",
            (total("instance, listener", f"weir_listener_connections{{{FLEET}}}"), "{{instance}} {{listener}}"))
    d.lines("New connections", "`refused_limit`: beyond the listener's connection limit. `timeout`: no request came in time.",
            (total("listener, result", rate("weir_listener_connections_total")), "{{listener}} {{result}}"), unit="cps")
    d.lines("Certificates end in", "What is left of each certificate that listeners show; the first of all instances counts.",
            (f"min by (certificate) (weir_tls_certificate_expiry_timestamp_seconds{{{FLEET}}}) - time()", "{{certificate}}"), unit="s")
    d.lines("Certificates changed", "Files that were read again. `rejected`: the pair does not fit, and the one before goes on.",
            (total("certificate, result", rate("weir_tls_certificate_reloads_total")), "{{certificate}} {{result}}"), unit="ops")
    d.lines("Certificate orders", "Orders at ACME servers by how they ended. `refused`: the server said no; `weir status` has its words.",
            (total("certificate, result", rate("weir_acme_orders_total")), "{{certificate}} {{result}}"), unit="ops")

    d.row("Instances")
    d.lines("Requests by instance", "Uneven lines: look at what spreads traffic over the instances.",
            (total("instance", rate("weir_requests_total", route)), "{{instance}}"), unit="reqps")
    d.lines("In flight by instance", "Requests under way.", (f"weir_requests_in_flight{{{FLEET}}}", "{{instance}}"))
    d.lines("CPU by instance", "Cores in use.", (rate("process_cpu_seconds_total"), "{{instance}}"), unit="cores")
    return d


def upstreams():
    d = Dashboard("weir-upstreams", "Weir / Upstreams and backends", "How traffic is spread over backends and what they make of it.",
                  ["job", "instance", "upstream", "backend"])
    attempts = rate("weir_backend_attempts_total", UP)
    bad = rate("weir_backend_attempts_total", UP + "," + BAD)
    names = "upstream, backend"
    pair = "{{upstream}}/{{backend}}"
    share = f"{total(names, attempts)} / on (upstream) group_left () {total('upstream', attempts)}"
    weight = f'weir_backend_weight{{{UP},kind="effective"}}'
    due = f"{total(names, weight)} / on (upstream) group_left () {total('upstream', weight)}"

    d.row("Upstreams")
    d.lines("Attempts", "Tries at backends; a request has one or more.", (total("upstream", attempts), "{{upstream}}"), unit="reqps")
    d.lines("Failed attempts", "Share of tries that ended in a fault of the backend.",
            (ratio(total("upstream", bad), total("upstream", attempts)), "{{upstream}}"), unit="percentunit", line=0.05)
    d.lines("Retries", "Share of tries that led to another one. The retry budget bounds those after bytes were sent.",
            (ratio(total("upstream", rate("weir_backend_retries_total", UP)), total("upstream", attempts)), "{{upstream}}"),
            unit="percentunit", line=0.2)
    d.lines("Time to response header", "As backends answer: no queueing by Weir, no body.",
            (quantile(0.5, "weir_backend_response_seconds", "upstream", UP), "{{upstream}} p50"),
            (quantile(0.99, "weir_backend_response_seconds", "upstream", UP), "{{upstream}} p99"), unit="s")
    d.lines("In flight", "Requests that backends are working on: the number the balancer reads.",
            (total("upstream", f"weir_backend_in_flight{{{UP}}}"), "{{upstream}}"))
    d.lines("Fail-open", "Requests tried on backends that are down because none was up, or fewer than `panic_threshold`.",
            (total("upstream", rate("weir_upstream_fail_open_total", UP)), "{{upstream}}"), unit="reqps", line=0.001)
    d.lines("Looks for backends", "Upstreams that find their backends in DNS or a file. After a failure what was found before stays.",
            (total("upstream, result", rate("weir_upstream_discoveries_total", UP)), "{{upstream}} {{result}}"), unit="cps")

    d.row("Queues")
    d.lines("Waiting", "Requests that wait because all backends have `max_in_flight`. Beyond `queue.size` they are answered 503.",
            (total("upstream", f"weir_upstream_queue_depth{{{UP}}}"), "{{upstream}}"))
    d.lines("Time in the queue", "Of requests that had to wait, however that ended. None is longer than `queue.timeout`.",
            (quantile(0.5, "weir_upstream_queue_seconds", "upstream", UP), "{{upstream}} p50"),
            (quantile(0.99, "weir_upstream_queue_seconds", "upstream", UP), "{{upstream}} p99"), unit="s")
    refused = FLEET + ',fault=~"queue_full|queue_timeout"'
    d.lines("Turned away", "`queue_full`: no room to wait, or no queue. `queue_timeout`: waited for `queue.timeout`. By route: faults know no upstream.",
            (total("route, fault", rate("weir_faults_total", refused)), "{{route}} {{fault}}"), unit="reqps", line=0.001)

    d.row("Backends side by side")
    # `or` returns the first series that exists, so the worst state comes first.
    worst = sorted(STATES.items(), key=lambda item: -item[1][0])
    state = " or ".join(f'(max by ({names}) (weir_backend_state{{{BACK},state="{s}"}} == 1) * {n})' for s, (n, _) in worst)
    d.panel("state-timeline", "State", "The worst that any instance says. `ejected`, `draining` and `disabled` take no new requests.",
            [(state, pair)], width=24, height=7, minimum=None,
            custom={"fillOpacity": 80, "lineWidth": 0}, color={"mode": "thresholds"},
            options={"mergeValues": True, "showValue": "auto", "rowHeight": 0.8, "alignValue": "left",
                     "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False}, "tooltip": {"mode": "single"}},
            mappings=[{"type": "value", "options": {str(n): {"text": s, "color": c, "index": n} for s, (n, c) in STATES.items()}}])
    d.lines("Share of attempts", "Of the upstream's tries. Compare with the next panel.", (share, pair), unit="percentunit",
            maximum=1, width=12, table=True)
    d.lines("Share by weight", "What effective weights ask for. A difference: unequal latency under least_connections, or retries.",
            (due, pair), unit="percentunit", maximum=1, width=12, table=True)
    matrix = [{"id": "groupingToMatrix",
               "options": {"columnField": "column", "rowField": "row", "valueField": "Value", "emptyValue": "zero"}}]

    def cross(row, column, expr):
        joined = f'label_join({expr}, "row", "/", {row})'
        return [(f'label_replace({joined}, "column", "$1", "{column}", "(.*)")', "")]

    def by(extra, metric):
        return total(f"{names}, {extra}", f"increase({metric}{{{BACK}}}[$__range])")

    cells = dict(width=6, instant=True, transformations=matrix, minimum=None, decimals=0,
                 options={"showHeader": True, "cellHeight": "sm", "footer": {"show": False}}, custom={"align": "auto"})
    pair_labels = '"upstream", "backend"'
    d.panel("table", "Attempts by backend and outcome", "Over the time range shown.",
            cross(pair_labels, "outcome", by("outcome", "weir_backend_attempts_total")), **cells)
    d.panel("table", "Errors by backend and cause", "Over the time range shown; 5xx responses and errors of gRPC included.",
            cross(pair_labels, "cause", by("cause", "weir_backend_errors_total")), **cells)
    d.panel("table", "Retries by backend and reason", "Over the time range shown; on the backend that failed.",
            cross(pair_labels, "reason", by("reason", "weir_backend_retries_total")), **cells)
    d.panel("table", "Faults by route and kind", "Over the time range shown.",
            cross('"route"', "fault", total("route, fault", f"increase(weir_faults_total{{{FLEET}}}[$__range])")), **cells)

    d.row("Backend $backend", repeat="backend")
    mine = rate("weir_backend_attempts_total", BACK)
    d.lines("$backend: responses", "Responses per second by status class.",
            (total("upstream, class", rate("weir_backend_requests_total", BACK)), "{{upstream}} {{class}}"), unit="reqps", stack=True,
            width=6)
    d.lines("$backend: failed attempts", "Tries that ended in a fault of the backend, by outcome.",
            (total("upstream, outcome", rate("weir_backend_attempts_total", BACK + "," + BAD)) + f" or 0 * {total('upstream', mine)}",
             "{{upstream}} {{outcome}}"), unit="reqps", width=6)
    d.lines("$backend: time to response header", "From the request being sent to the response header.",
            *[(quantile(q, "weir_backend_response_seconds", "upstream", BACK), "{{upstream}} p" + f"{q * 100:g}")
              for q in (0.5, 0.9, 0.99)], unit="s", width=6)
    d.lines("$backend: in flight", "Requests it is working on, by instance.",
            (total("instance, upstream", f"weir_backend_in_flight{{{BACK}}}"), "{{instance}} {{upstream}}"), width=6)
    d.lines("$backend: share against weight", "Its share of the upstream's tries, and what its effective weight asks for.",
            (f"{total(names, mine)} / on (upstream) group_left () {total('upstream', attempts)}", "{{upstream}} share"),
            (f"{total(names, weight.replace(UP, BACK))} / on (upstream) group_left () {total('upstream', weight)}",
             "{{upstream}} by weight"), unit="percentunit", maximum=1, width=6)
    d.lines("$backend: retries by reason", "Tries at it that led to another try.",
            (total("upstream, reason", rate("weir_backend_retries_total", BACK)) + f" or 0 * {total('upstream', mine)}",
             "{{upstream}} {{reason}}"), unit="reqps", width=6)
    d.lines("$backend: bytes", "Bodies sent to it and received from it.",
            (total("upstream, direction", rate("weir_backend_bytes_total", BACK)), "{{upstream}} {{direction}}"), unit="Bps", width=6)
    d.lines("$backend: health checks", "Probes by result; all instances probe.",
            (total("upstream, result", rate("weir_backend_checks_total", BACK)), "{{upstream}} {{result}}"), unit="ops", width=6)
    d.lines("$backend: connect and probe time", "Opening a connection, and a whole health probe.",
            (quantile(0.99, "weir_backend_connect_seconds", "upstream", BACK), "{{upstream}} connect p99"),
            (quantile(0.99, "weir_backend_check_seconds", "upstream", BACK), "{{upstream}} probe p99"), unit="s", width=12, height=7)
    d.lines("$backend: changes of state", "By the state entered. More than a few an hour: it flaps.",
            (total("upstream, to", f"increase(weir_backend_state_changes_total{{{BACK}}}[$__rate_interval])"), "{{upstream}} {{to}}"),
            width=12, height=7)
    return d


def process():
    d = Dashboard("weir-process", "Weir / Configuration and process", "Reloads, versions and what the process itself uses.",
                  ["job", "instance"])
    yes = [{"type": "value", "options": {"1": {"text": "applied", "color": GREEN}, "0": {"text": "rejected", "color": RED}}}]
    d.row("Configuration")
    d.number("Last reload", "Rejected: the file has problems, and the configuration before it goes on. `weir check` names them.",
             f"min(weir_config_last_reload_success{{{FLEET}}})", mappings=yes, graph=False,
             thresholds=steps((RED, None), (GREEN, 1)))
    d.number("Since the last reload", "Shortest over the instances; from the start if there was none.",
             f"min(time() - weir_config_last_reload_timestamp_seconds{{{FLEET}}})", unit="s", graph=False)
    d.number("Reloads rejected", "Over the time range shown.",
             f'sum(increase(weir_config_reloads_total{{{FLEET},result="rejected"}}[$__range]))', graph=False, decimals=0,
             thresholds=steps((GREEN, None), (YELLOW, 1)))
    d.number("Versions", "More than one: an upgrade is under way or was left half done.",
             f"count(count by (version, commit) (weir_build_info{{{FLEET}}}))", graph=False,
             thresholds=steps((GREEN, None), (YELLOW, 2)))
    d.number("Panics", "Over the time range shown. Each one is a bug: its place is in the log.",
             f"sum(increase(weir_panics_total{{{FLEET}}}[$__range]))", graph=False, decimals=0,
             thresholds=steps((GREEN, None), (RED, 1)))
    d.number("Access log drops", "Lines not written over the time range shown, because the disk or the pipe was too slow.",
             f"sum(increase(weir_access_log_dropped_total{{{FLEET}}}[$__range]))", graph=False, decimals=0,
             thresholds=steps((GREEN, None), (YELLOW, 1)))
    d.panel("table", "Instances", "Version and commit of each instance.", [(f"weir_build_info{{{FLEET}}}", "")], instant=True,
            width=12, height=7, minimum=None, options={"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
            transformations=[{"id": "organize", "options": {
                "excludeByName": {"Time": True, "Value": True, "__name__": True},
                "indexByName": {"instance": 0, "job": 1, "version": 2, "commit": 3}, "renameByName": {}}}])
    d.lines("Generation", "Goes up by one with each configuration applied; back to 1 with a new process.",
            (f"weir_config_generation{{{FLEET}}}", "{{instance}}"), width=6, height=7)
    d.lines("Reloads", "By result, over the interval of a point.",
            (total("result", f"increase(weir_config_reloads_total{{{FLEET}}}[$__rate_interval])"), "{{result}}"), width=6, height=7)

    d.row("Process")
    d.lines("CPU", "Cores in use.", (rate("process_cpu_seconds_total"), "{{instance}}"), unit="cores")
    cost = total("instance", rate("process_cpu_seconds_total")) + " / (" + total("instance", rate("weir_requests_total")) + " > 0)"
    d.lines("CPU per request", "Health checks and scrapes included: it means something under load only.", (cost, "{{instance}}"),
            unit="s")
    d.lines("Memory", "Resident set.", (f"process_resident_memory_bytes{{{FLEET}}}", "{{instance}}"), unit="bytes")
    d.lines("File descriptors", "Share of the limit in use; two a proxied request. At 100 % new connections fail.",
            (f"process_open_fds{{{FLEET}}} / process_max_fds{{{FLEET}}}", "{{instance}}"), unit="percentunit", maximum=1, line=0.8)
    d.lines("Threads", "Threads of the process.", (f"process_threads{{{FLEET}}}", "{{instance}}"))
    d.lines("Uptime", "Since the process started; a fall to zero is a restart.",
            (f"time() - process_start_time_seconds{{{FLEET}}}", "{{instance}}"), unit="s")

    d.row("Telemetry")
    d.lines("Access log drops", "Lines per second that were not written.", (rate("weir_access_log_dropped_total"), "{{instance}}"),
            unit="ops", line=0.001)
    d.lines("Scrape time", "How long Prometheus takes to read /metrics.", (f"scrape_duration_seconds{{{FLEET}}}", "{{instance}}"),
            unit="s")
    d.lines("Series", "Samples in a scrape: they grow with routes and backends, never with clients.",
            (f"scrape_samples_scraped{{{FLEET}}}", "{{instance}}"))
    return d


DASHBOARDS = {"fleet.json": fleet, "upstreams.json": upstreams, "process.json": process}


def rendered():
    """File name → text, for this script and for the test that compares the files."""
    return {name: json.dumps(make().json(), indent=2) + "\n" for name, make in DASHBOARDS.items()}


def main():
    folder = HERE / "dashboards"
    folder.mkdir(exist_ok=True)
    stale = []
    for name, text in rendered().items():
        path = folder / name
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        sys.exit(f"grafana: not what build.py writes: {', '.join(stale)}")


if __name__ == "__main__":
    main()
