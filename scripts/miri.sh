#!/usr/bin/env bash
# miri.sh: runs the tests of the crates in crates/ under Miri, which finds undefined behaviour. Miri exists for
# nightly toolchains only; what is missing is named, with exit status 1.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v rustup >/dev/null 2>&1; then
    echo "miri: rustup is missing: Miri comes as a component of a nightly toolchain" >&2
    exit 1
fi
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri: a nightly toolchain with Miri is missing: rustup toolchain install nightly --component miri,rust-src" >&2
    exit 1
fi
# Without this flag Miri warns of pointers that tokio's reactor makes from integers. The crates themselves make no such pointers.
export MIRIFLAGS="${MIRIFLAGS:-} -Zmiri-permissive-provenance"
exec cargo +nightly miri test --locked -p weir-alloc -p weir-task --lib
