#!/usr/bin/env bash
# deny.sh CHECK...: cargo-deny over everything that Cargo.lock can build, installed first if it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
have=$(cargo deny --version 2>/dev/null || true)
if [ -z "$have" ]; then
    echo "deny: installing cargo-deny $version with cargo (a few minutes)" >&2
    # A lint tool runs for seconds: a cheap build beats a fast binary.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
        CARGO_PROFILE_RELEASE_DEBUG=0 cargo install --quiet --locked "cargo-deny@$version"
fi
exec cargo deny --locked --workspace --all-features check "$@"
