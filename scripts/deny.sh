#!/usr/bin/env bash
# deny.sh CHECK...: runs cargo-deny on all dependencies in Cargo.lock. It installs cargo-deny if that is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
have=$(cargo deny --version 2>/dev/null || true)
if [ -z "$have" ]; then
    echo "deny: installing cargo-deny $version with cargo (a few minutes)" >&2
    # The tool runs for seconds only, so a fast build matters more than a fast binary.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=64 \
        CARGO_PROFILE_RELEASE_DEBUG=0 cargo install --quiet --locked "cargo-deny@$version"
fi
exec cargo deny --locked --workspace --all-features check "$@"
