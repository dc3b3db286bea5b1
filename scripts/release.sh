#!/usr/bin/env bash
# release.sh: builds the release binary with the profile of a training run (scripts/pgo.sh), and packs it with its configuration,
# documentation, dashboards and licence. PGO=off builds without a profile. BINARY=PATH packs that binary and builds none.
# The archive is reproducible: names are sorted, owners and times are fixed. The binary is reproducible with the inputs of its training
# run, which are packed beside it: INPUTS=FOLDER, after unpacking them there, builds the same binary again.
set -euo pipefail
cd "$(dirname "$0")/.."

export WEIR_COMMIT=${WEIR_COMMIT:-$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || true)}
binary=${BINARY:-} built=without
if [ -z "$binary" ] && [ "${PGO:-on}" != off ]; then
    status=0
    binary=$(scripts/pgo.sh) || status=$?
    case $status in
        0) built=with ;;
        3) echo "release: WITHOUT a profile, for the reason above: expect more CPU a request" >&2 ;;
        *) exit "$status" ;;
    esac
fi
if [ -z "$binary" ]; then binary=$(scripts/build.sh target/reproducible); fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=weir-$version-$(rustc -vV | sed -n 's/^host: //p')
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
packages=target/packages stage=target/packages/stage

scripts/stage.sh "$binary"
# The benchmarks use this copy of the released binary.
if ! [ "$binary" -ef $packages/weir ]; then cp "$binary" $packages/weir; fi
rm -rf "${packages:?}/$name"
mkdir -p "$packages/$name/man"
cp $stage/bin/weir $stage/weir.cdx.json "$packages/$name/"
cp $stage/man/weir.1 "$packages/$name/man/"
cp -r $stage/completions "$packages/$name/"
gzip -dc $stage/third-party-licences.txt.gz >"$packages/$name/third-party-licences.txt"
for part in conf docs grafana CHANGELOG.md LICENSE README.md SECURITY.md; do
    if [ -e "$part" ]; then cp -r "$part" "$packages/$name/"; fi
done
rm -rf "$packages/$name/grafana/"{build.py,test.py,__pycache__}
# pack NAME FOLDER MEMBER
pack() {
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=go=rX,u+rwX -C "$2" -c "$3" \
        | gzip -n >"$packages/$1.tar.gz"
}
pack "$name" $packages "$name"
if [ $built = with ]; then pack "$name-profile" target/pgo inputs; fi
cp $stage/weir.debug "$packages/$name.debug"
cp $stage/weir.cdx.json "$packages/$name.cdx.json"
scripts/sums.sh
if [ -z "${BINARY:-}" ]; then echo "release: built $built a profile" >&2; fi
