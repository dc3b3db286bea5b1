#!/usr/bin/env bash
# package.sh: builds the Debian package of target/packages/weir, which `make release` leaves there. REVISION is its Debian revision.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$(scripts/cargo_tool.sh cargo-deb 3.8.0)
export REVISION=${REVISION:-1}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
scripts/stage.sh target/packages/weir
# The stage has the stripped binary.
"$tool" --quiet --no-build --no-strip --deb-revision "$REVISION" -o target/packages/ >&2
scripts/sums.sh
