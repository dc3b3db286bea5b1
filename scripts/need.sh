#!/usr/bin/env bash
# need.sh COMMAND=PACKAGE...
# Makes sure that each command exists. As root on Debian it installs missing packages and prints a line about it. Elsewhere it names
# the packages and exits with status 1.
set -euo pipefail

missing=()
for pair in "$@"; do
    command=${pair%%=*} package=${pair#*=}
    # Servers are installed in sbin, which is not on every PATH.
    if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1; then
        if [ "$package" = rust ]; then
            echo "need: $command is missing: install Rust 1.91 or later with rustup (components rustfmt and clippy)" >&2
            exit 1
        fi
        # A command may need several packages: a compiler cannot link without the C library's headers.
        read -ra names <<<"${package//+/ }"
        missing+=("${names[@]}")
        echo "need: $command is missing (Debian package: ${names[*]})" >&2
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "need: install them, as root: apt-get install ${missing[*]}" >&2
    exit 1
fi

echo "need: installing ${missing[*]} with apt-get" >&2
# Debian starts a server when it is installed. The tests and benchmarks start their own servers, so this policy prevents it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null >"$log" 2>&1; }
log=$(mktemp)
# The package lists of a fresh machine are empty or old. They are refreshed if the first attempt fails.
if ! install && ! { apt-get update -q </dev/null >>"$log" 2>&1 && install; }; then
    tail -n 30 "$log" >&2
    echo "need: apt-get could not install ${missing[*]}" >&2
    exit 1
fi
rm -f "$log"
