#!/usr/bin/env bash
# brotli.sh: installs Google's brotli for the tests as target/tools/brotli, from PyPI. If that fails, it prints a message, and the tests of
# content coding run without this decoder.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=target/tools/brotli
[ -x $folder/bin/python ] && exit 0
echo "need: fetching brotli (PyPI) into $folder" >&2
if ! log=$({ python3 -m venv $folder && $folder/bin/pip install -q brotli; } 2>&1); then
    echo "$log" | tail -n 3 >&2
    rm -rf $folder
    echo "need: without brotli: pip could not install it" >&2
fi
