#!/usr/bin/env bash
# package_check.sh: tries the packages of `make release` and `make package` as root on Debian. It installs, starts, upgrades under load,
# removes and purges the Debian package in a debootstrap chroot, runs lintian, runs the image, and builds twice.
# A step that this machine cannot do prints `skipped: reason`. The last line counts the steps. REBUILD=off skips the two builds.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$PWD/target/package-check
root=$work/root
passed=0 skipped=0
ok() { passed=$((passed + 1)); echo "ok: $*"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

mounted=()
cleanup() {
    for place in "${mounted[@]}"; do umount -l "$place" 2>/dev/null || true; done
}
trap cleanup EXIT

[ "$(id -u)" = 0 ] || fail "package-check needs root, for a chroot"
for file in target/packages/weir target/packages/stage/bin/weir; do [ -e $file ] || fail "$file is missing: run make release package"; done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1 || true)
architecture=$(dpkg --print-architecture)
mkdir -p "$work"

first=$PWD/target/packages/weir_$version-1_$architecture.deb
second=$PWD/target/packages/weir_$version-2_$architecture.deb
REVISION=1 scripts/package.sh >/dev/null 2>&1
cp "$first" "$work/again.deb"
REVISION=1 scripts/package.sh >/dev/null 2>&1
cmp "$first" "$work/again.deb" || fail "two packages of one binary differ"
ok "two packages of one binary are the same, bit by bit"
REVISION=2 scripts/package.sh >/dev/null 2>&1
mv "$second" "$work/second.deb"
REVISION=1 scripts/package.sh >/dev/null 2>&1
(cd target/packages && sha256sum --quiet -c SHA256SUMS) || fail "SHA256SUMS"
ok "SHA256SUMS fits the files"

if lintian --fail-on error,warning --no-tag-display-limit "$first" >"$work/lintian.log" 2>&1; then
    ok "lintian has no error and no warning"
else
    cat "$work/lintian.log"
    fail "lintian"
fi

# --- the chroot
base=$work/base-$architecture.tar
if [ ! -e "$base" ]; then
    rm -rf "$root"
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
    mirror=$(sed -n 's/^URIs: *//p; s/^deb [^h]*\(http[^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -n 1 || true)
    if debootstrap --variant=minbase --include=adduser,logrotate,bash-completion "$suite" "$root" "${mirror:-http://deb.debian.org/debian}" \
        >"$work/debootstrap.log" 2>&1; then
        tar -C "$root" -cf "$base" .
    else
        tail -n 5 "$work/debootstrap.log"
    fi
fi
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
if [ -e "$base" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    tar -C "$root" -xf "$base"
    mount -t proc proc "$root/proc"
    mounted+=("$root/proc")
    cp "$first" "$work/second.deb" "$root/root/"
    in_root dpkg -i "/root/$(basename "$first")" >"$work/install.log" 2>&1 || { cat "$work/install.log"; fail "the installation"; }
    [ "$(in_root stat -c '%U:%G %a' /var/lib/weir)" = "weir:weir 700" ] || fail "/var/lib/weir"
    [ "$(in_root stat -c '%U:%G %a' /var/log/weir)" = "weir:adm 750" ] || fail "/var/log/weir"
    in_root weir check --strict >"$work/check.log" 2>&1 || { cat "$work/check.log"; fail "the packaged configuration"; }
    in_root test -e /usr/lib/systemd/system/weir.service || fail "no unit"
    in_root bash -c '. /usr/share/bash-completion/bash_completion && _completion_loader weir; complete -p weir' >/dev/null || fail "completion"
    in_root logrotate --debug /etc/logrotate.d/weir >"$work/logrotate.log" 2>&1 || { cat "$work/logrotate.log"; fail "logrotate"; }
    ok "the package installs: user, folders, configuration, unit, completion, logrotate"
    python3 scripts/package_load.py "$root" "$work" || fail "start, load or upgrade (see above)"
    ok "the service starts as user weir, and a new version of the package is installed under load without a failed request"
    if in_root weir upgrade --help >/dev/null 2>&1; then
        ok "weir upgrade replaced the running process under load"
    else
        skip "weir upgrade under load: this version has no such command"
    fi
    skip "units start in the chroot: no systemd runs there"
    in_root dpkg -r weir >"$work/remove.log" 2>&1 || { cat "$work/remove.log"; fail "the removal"; }
    in_root test -e /etc/weir/weir.yaml || fail "the removal took the configuration"
    in_root test ! -e /usr/bin/weir || fail "the removal left the program"
    in_root dpkg -P weir >"$work/purge.log" 2>&1 || { cat "$work/purge.log"; fail "the purge"; }
    left=$(in_root find / -xdev -name '*weir*' -not -path '/proc/*' -not -path '/root/*' -not -path '/var/log/dpkg.log')
    [ -z "$left" ] || fail "the purge left: $left"
    ok "a removal keeps the configuration, and a purge leaves no file"
else
    skip "installation, upgrade under load, removal and purge: debootstrap failed"
fi

# --- the image
if command -v buildah >/dev/null 2>&1; then
    scripts/image_check.sh "$work" || fail "the image"
    ok "the image runs as process 1 of user 65532, with a read-only root, without /etc/passwd and without a shell"
    skip "the base image of the Containerfile: no registry is reached, so an image from scratch took its place"
else
    skip "the image: buildah is missing"
fi

# --- the same binary again
if [ "${REBUILD:-on}" = off ]; then
    skip "two builds: REBUILD=off"
else
    inputs=target/pgo/inputs
    for place in one two; do
        rm -rf "target/package-check/build-$place"
        if [ -e $inputs/merged ]; then
            profile=$PWD/target/package-check/merged.profdata
            cp $inputs/merged "$profile"
            built=$(scripts/build.sh "target/package-check/build-$place" "-Cprofile-use=$profile" 2>"$work/build-$place.log")
        else
            built=$(scripts/build.sh "target/package-check/build-$place" 2>"$work/build-$place.log")
        fi
        mv "$built" "$work/weir-$place"
        rm -rf "target/package-check/build-$place"
    done
    cmp "$work/weir-one" "$work/weir-two" || fail "two builds differ"
    ok "two builds in different folders are the same, bit by bit$([ ! -e $inputs/merged ] || echo ', with the kept profile')"
fi

echo "package-check: $passed passed, $skipped skipped"
