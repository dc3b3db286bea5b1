"""Runs a case on several proxies: interleaved rounds, medians, a table."""
import statistics

import cases
import contestants
import origins
import plot
from contestants import Setup
from processes import free_port, undisturbed


def field(stage, options, backends, names, **setup):
    """Starts and warms up the available proxies: name → (process, port)."""
    started = {}
    for name in names:
        port = free_port()
        running = contestants.start(stage, name, Setup(stage.folder, port, backends, cert=options.cert, key=options.key, **setup))
        if running:
            started[name] = (running, port)
    return started


def rounds(names, count):
    """Each round begins with another proxy, so that none is always the first after a pause."""
    names = list(names)
    for turn in range(count):
        yield turn, names[turn % len(names):] + names[:turn % len(names)]


def run(stage, options, key):
    """Measures one case on all proxies: name → list of measurements."""
    case = cases.CASES[key]
    names = [name for name in options.names if case.buffering_matters or name != "nginx-unbuffered"]
    backends = origins.websocket(stage) if case.websocket else origins.http(stage)
    results = {}
    for start in range(options.starts):
        # The layout of a process in memory and cache is fixed when it starts, and changes a small request by a tenth.
        there = field(stage, options, backends, names, front=case.front)
        for _, port in there.values():
            case.run(stage, port, 1, options.connections)
        for turn, order in rounds(there, options.rounds):
            for name in order:
                options.say(f"{key}: start {start + 1}/{options.starts}, round {turn + 1}/{options.rounds}: {name}")
                measured = undisturbed(lambda: measure(stage, options, case, *there[name]))
                results.setdefault(name, []).append(measured)
        stage.end(*(running for running, _ in there.values()))
    return results


def measure(stage, options, case, running, port):
    before = running.cpu()
    done = case.run(stage, port, options.seconds, options.connections)
    ran, user, system = (after - start for after, start in zip(running.cpu(), before))
    cpu, share = ran / done.requests * 1e6, user / max(user + system, 1)
    return {"cpu": cpu, "user": cpu * share, "system": cpu * (1 - share), "rate": done.rate, "p50": done.p50, "p99": done.p99,
            "rss": running.rss()}


def summary(results):
    """name → medians. User and system times are of the median round, so that they add up. `spread` is half of max − min."""
    middles = {}
    for name, measured in results.items():
        by_cpu = sorted(measured, key=lambda each: each["cpu"])
        middle = {key: statistics.median(each[key] for each in measured) for key in measured[0] if measured[0][key] is not None}
        middle |= {key: by_cpu[len(by_cpu) // 2][key] for key in ("cpu", "user", "system")}
        middles[name] = middle | {"spread": (by_cpu[-1]["cpu"] - by_cpu[0]["cpu"]) / 2}
    return middles


def ratio(middles, key, name, base):
    return f"{middles[name][key] / middles[base][key]:.2f} ×" if base in middles else "–"


def table(key, results):
    case, middles = cases.CASES[key], summary(results)
    lines = [f"| proxy | CPU µs/{case.unit} | user | system | against bare | against nginx | {case.unit}s/s | p50 ms | p99 ms | RSS MiB |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, middle in middles.items():
        times = " | ".join(f"{middle[quantile]:.2f}" if quantile in middle else "–" for quantile in ("p50", "p99"))
        lines.append(f"| {name} | {middle['cpu']:.1f} ± {middle['spread']:.1f} | {middle['user']:.1f} | {middle['system']:.1f} "
                     f"| {ratio(middles, 'cpu', name, 'bare')} | {ratio(middles, 'cpu', name, 'nginx')} "
                     f"| {middle['rate']:,.0f} | {times} | {middle['rss']:.0f} |")
    return "\n".join(lines)


def chart(key, results):
    case = cases.CASES[key]
    bars = {name: (middle["user"], middle["system"]) for name, middle in summary(results).items()}
    return plot.bars(f"{case.title}: CPU µs per {case.unit}, one core", bars, ("user", "system"))
