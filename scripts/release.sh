#!/usr/bin/env bash
# release.sh: builds the release binary and packs it with its configuration, dashboards and licence.
# The same commit gives the same archive: names are sorted, owners and times are fixed.
set -euo pipefail
cd "$(dirname "$0")/.."

export WEIR_COMMIT=${WEIR_COMMIT:-$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || true)}
cargo build --release --locked
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=weir-$version-$(rustc -vV | sed -n 's/^host: //p')
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)

rm -rf "target/dist/$name"
mkdir -p "target/dist/$name"
cp target/release/weir "target/dist/$name/"
for part in conf docs grafana CHANGELOG.md LICENSE README.md; do
    if [ -e "$part" ]; then cp -r "$part" "target/dist/$name/"; fi
done
rm -rf "target/dist/$name/grafana/"{build.py,test.py,__pycache__}
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C target/dist -c "$name" \
    | gzip -n >"target/dist/$name.tar.gz"
cd target/dist
sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256"
