"""Measures p50 and p99 at a fixed rate in an open loop. The rate is half of the slowest proxy's maximum. All use least connections."""
import statistics

import compare
import load
import origins
from processes import undisturbed


def run(stage, options, _key):
    there = compare.field(stage, options, origins.http(stage), without_variants(options.names), least=True)
    rate = options.rate or saturation(stage, options, there) / 2
    results = {name: [] for name in there}
    for turn, order in compare.rounds(there, options.rounds):
        for name in order:
            options.say(f"rate: round {turn + 1}/{options.rounds} {name}")
            done = undisturbed(lambda: load.h2load(stage, there[name][1], options.seconds, "--h1", connections=options.connections, rate=rate))
            results[name].append({"asked": rate, "rate": done.rate, "p50": done.p50, "p99": done.p99, "worst": done.worst})
    return results


def without_variants(names):
    return [name for name in names if name != "nginx-unbuffered"]


def saturation(stage, options, there):
    """Returns the requests/s of the slowest proxy, from the median of three short runs each."""
    def one(port):
        return statistics.median(load.wrk(stage, port, 1, connections=options.connections).rate for _ in range(3))
    options.say("rate: looking for the slowest")
    return min(one(port) for _, port in there.values())


def table(_key, results):
    middles = {name: {key: statistics.median(each[key] for each in measured) for key in measured[0]} for name, measured in results.items()}
    rivals = [middles[name]["p99"] for name in ("nginx", "haproxy") if name in middles]
    asked = next(iter(middles.values()))["asked"]
    lines = [f"{asked:,.0f} requests/s asked of each.\n", "| proxy | requests/s | p50 ms | p99 ms | slowest ms | p99 against the better of nginx and HAProxy |",
             "|---|---|---|---|---|---|"]
    for name, middle in middles.items():
        against = f"{middle['p99'] / min(rivals):.2f} ×" if rivals else "–"
        lines.append(f"| {name} | {middle['rate']:,.0f} | {middle['p50']:.2f} | {middle['p99']:.2f} | {middle['worst']:.1f} | {against} |")
    return "\n".join(lines)
