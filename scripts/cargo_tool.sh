#!/usr/bin/env bash
# cargo_tool.sh NAME VERSION: installs a tool with cargo into target/tools/cargo, if it is missing, and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$PWD/target/tools/cargo/bin/$1
if [ ! -x "$tool" ]; then
    echo "need: installing $1 $2 with cargo (a few minutes)" >&2
    # The tool runs for seconds only, so a fast build matters more than a fast binary.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo install --quiet --locked "$1@$2" --root target/tools/cargo --target-dir target/tools/build >&2
fi
echo "$tool"
