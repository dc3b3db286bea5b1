#!/usr/bin/env bash
# build.sh FOLDER [FLAGS]: builds the shipped binary with FOLDER as target folder, and prints its path. FLAGS are more flags of rustc.
# The result does not depend on the paths of the sources, the crates and FOLDER. PROFILE chooses another profile than `dist`.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p "$1"
folder=$(realpath "$1")
crates=$(realpath "${CARGO_HOME:-$HOME/.cargo}")
host=$(rustc -vV | sed -n 's/^host: //p')
profile=${PROFILE:-dist}

# Of several prefixes that match, compilers take the last one.
rust= c=
for map in "$crates=/cargo" "$PWD=/weir" "$folder=/weir/target"; do
    rust+=" --remap-path-prefix=$map"
    c+=" -ffile-prefix-map=$map"
done
export RUSTFLAGS="${RUSTFLAGS:-}$rust ${2:-}" CFLAGS="${CFLAGS:-}$c" CXXFLAGS="${CXXFLAGS:-}$c"
# With --target the flags do not apply to build scripts, which would write profiles of their own.
cargo build --profile "$profile" --locked --bin weir --target "$host" --target-dir "$folder" >&2
echo "$1/$host/$profile/weir"
