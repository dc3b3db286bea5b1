#!/usr/bin/env bash
# release.sh: builds the release binary with the profile of a training run (scripts/pgo.sh), and packs it with its configuration,
# documentation, dashboards and licence. PGO=off builds without a profile. The archive is reproducible: names are sorted, owners and
# times are fixed. The binary is reproducible only without a profile, because each training run has another profile.
set -euo pipefail
cd "$(dirname "$0")/.."

export WEIR_COMMIT=${WEIR_COMMIT:-$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || true)}
built=without
if [ "${PGO:-on}" != off ]; then
    status=0
    binary=$(scripts/pgo.sh) || status=$?
    case $status in
        0) built=with ;;
        3) echo "release: WITHOUT a profile, for the reason above: expect more CPU a request" >&2 ;;
        *) exit "$status" ;;
    esac
fi
if [ $built = without ]; then
    cargo build --profile dist --locked --bin weir
    binary=target/dist/weir
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=weir-$version-$(rustc -vV | sed -n 's/^host: //p')
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)

rm -rf "target/packages/$name"
mkdir -p "target/packages/$name"
cp "$binary" "target/packages/$name/"
# The benchmarks use this copy of the released binary.
cp "$binary" target/packages/weir
for part in conf docs grafana CHANGELOG.md LICENSE README.md SECURITY.md; do
    if [ -e "$part" ]; then cp -r "$part" "target/packages/$name/"; fi
done
rm -rf "target/packages/$name/grafana/"{build.py,test.py,__pycache__}
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C target/packages -c "$name" \
    | gzip -n >"target/packages/$name.tar.gz"
cd target/packages
sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256"
echo "release: built $built a profile" >&2
