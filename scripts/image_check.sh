#!/usr/bin/env bash
# image_check.sh FOLDER: builds the Containerfile with buildah on an image from scratch that has the C library alone, and runs its root as a
# container would: process 1 in namespaces of its own, user 65532, a read-only root.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$1
libraries=$work/libraries
rm -rf "$libraries"
mkdir -p "$libraries"
for library in $(ldd target/packages/stage/bin/weir | grep -o '/[^ ]*'); do
    install -D "$(realpath "$library")" "$libraries$library"
done
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$libraries/etc/ssl/certs/ca-certificates.crt"
# Engines mount these.
mkdir -p "$libraries/proc" "$libraries/dev" "$libraries/tmp"

export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
buildah="buildah --root $work/storage --runroot $work/storage-run"
$buildah rmi --all --force >/dev/null 2>&1 || true
base=$($buildah from scratch)
$buildah copy --quiet "$base" "$libraries" / >/dev/null
$buildah commit --quiet "$base" weir-base >/dev/null
$buildah rm "$base" >/dev/null
$buildah build --quiet --pull=never --build-arg BASE=localhost/weir-base -t weir-image . >/dev/null
container=$($buildah from --pull=never localhost/weir-image)
root=$($buildah mount "$container")
$buildah inspect --type image localhost/weir-image >"$work/image.json"
python3 scripts/image_run.py "$root" "$work/image.json"
$buildah umount "$container" >/dev/null
$buildah rm "$container" >/dev/null
$buildah rmi --all --force >/dev/null
