#!/usr/bin/env bash
# sums.sh: writes target/packages/SHA256SUMS for all files of the release, and prints it.
set -euo pipefail
cd "$(dirname "$0")/../target/packages"
LC_ALL=C find . -maxdepth 1 -type f \( -name 'weir-*' -o -name '*.deb' \) -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | tee SHA256SUMS
