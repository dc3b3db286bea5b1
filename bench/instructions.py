#!/usr/bin/env python3
"""Counts the instructions of a request in user space with callgrind, for one or more Weir binaries.

Each binary serves a smaller and a larger number of requests, in two processes. The difference excludes the start and the end of a process.
The counts do not depend on other work on the machine. Run `make bench-instructions BENCH="--binary old=PATH"`. It needs valgrind.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import contestants
import origins
from processes import Stage, free_port, raise_limits

CASES = {"get": ("/0.1k", ()), "100k": ("/100k", ()), "post": ("/post", ("-d", "{folder}/1k"))}
CONNECTIONS = 8


def count(stage, name, path, options, requests):
    """Returns callgrind's count from the start of the process to its end."""
    port, out = free_port(), stage.folder / f"{name}-{requests}.out"
    command = contestants.weir(contestants.Setup(stage.folder, port, stage.backends), contestants.WEIRS[name])
    running = stage.start(f"{name}-{port}", stage.core, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *command], port)
    said = subprocess.run(["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-n{requests}", *options, f"http://127.0.0.1:{port}{path}"],
                          capture_output=True, text=True, timeout=600).stdout
    if f"{requests} succeeded" not in said:
        sys.exit(f"bench: {name}: requests failed:\n{said[-1500:]}")
    stage.end(running, patience=60)
    return total(out)


def total(out):
    """Returns the count in callgrind's output."""
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.M)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", action="append", default=[], metavar="NAME=PATH", help="another weir; may be repeated")
    parser.add_argument("--only", help="binaries, by commas (default: weir and those of --binary)")
    parser.add_argument("--cases", default=",".join(CASES), help=f"by commas, of {', '.join(CASES)}")
    parser.add_argument("--requests", type=int, nargs=2, default=(1000, 5000), metavar=("FEW", "MANY"))
    options = parser.parse_args()
    for pair in options.binary:
        contestants.add_binary(*pair.split("=", 1))
    names = options.only.split(",") if options.only else ["weir", *(pair.split("=")[0] for pair in options.binary)]
    raise_limits()
    few, many = options.requests
    print(f"| case | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for case in options.cases.split(","):
        path, extra = CASES[case]
        cells = []
        with tempfile.TemporaryDirectory(prefix="weir-instructions-") as folder, Stage(pathlib.Path(folder), "0", "1") as stage:
            (stage.folder / "1k").write_bytes(b"x" * 1024)
            stage.backends = origins.http(stage)
            extra = [word.format(folder=folder) for word in extra]
            for name in names:
                cells.append((count(stage, name, path, extra, many) - count(stage, name, path, extra, few)) / (many - few))
        print(f"| {case} | {' | '.join(f'{cell:,.0f} ({cell / cells[0]:.3f})' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
