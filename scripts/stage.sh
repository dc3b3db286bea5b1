#!/usr/bin/env bash
# stage.sh BINARY: prepares the generated files of the packages in target/packages/stage: the stripped binary, its symbols,
# completions, the manual page, the systemd units with the paths of a package, the Debian changelog, the list of dependencies (SBOM)
# and their licences.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$1
stage=target/packages/stage
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
rm -rf $stage
mkdir -p $stage/bin $stage/completions $stage/man $stage/units

# gdb and addr2line find the symbols in the separate file by the build id.
objcopy --only-keep-debug --compress-debug-sections "$binary" $stage/weir.debug
strip -o $stage/bin/weir "$binary"
chmod 755 $stage/bin/weir
for shell in bash zsh fish; do
    # A variable of the environment must not get into the text of an option.
    env -i "$stage/bin/weir" completions $shell >"$stage/completions/weir.$shell"
done
env -i $stage/bin/weir man >$stage/man/weir.1
for unit in conf/weir.service conf/weir.socket; do
    if [ -e $unit ]; then sed -e 's,/usr/local/,/usr/,g' $unit >"$stage/units/${unit#conf/}"; fi
done
python3 scripts/sbom.py >$stage/weir.cdx.json
python3 scripts/third_party_licences.py | gzip -9n >$stage/third-party-licences.txt.gz
gzip -9nc CHANGELOG.md >$stage/changelog.gz
cat >$stage/changelog.Debian <<CHANGELOG
weir ($version-${REVISION:-1}) unstable; urgency=medium

  * Version $version. Its changes are in /usr/share/doc/weir/changelog.gz.

 -- The Weir developers <weir@weir.invalid>  $(LC_ALL=C date -u -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}" '+%a, %d %b %Y %H:%M:%S +0000')
CHANGELOG
