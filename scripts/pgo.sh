#!/usr/bin/env bash
# pgo.sh: builds weir with a profile of a training run, as target/pgo/optimised/HOST/release/weir, and prints that path.
#   1. instrumented build   2. bench/train.py puts a mixed load on it   3. the build that uses what was counted
# Exit status 3, and a word on stderr, where what it takes is not there: an llvm-profdata of rustc's LLVM, and load generators.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profiles=$PWD/target/pgo/profiles
weir=$host/release/weir

# Of the toolchain itself where rustup has llvm-tools, else of the distribution; an older one cannot read the format.
profdata() {
    local of_rustc
    of_rustc=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
    for candidate in "$of_rustc" "llvm-profdata-$llvm" "/usr/lib/llvm-$llvm/bin/llvm-profdata"; do
        if command -v "$candidate" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# build FOLDER FLAGS. --target keeps the flags away from build scripts, which would leave profiles of their own.
build() { RUSTFLAGS="${RUSTFLAGS:-} $2" cargo build --release --locked --bin weir --target "$host" --target-dir "target/pgo/$1" >&2; }

if ! tool=$(profdata); then
    scripts/need.sh "llvm-profdata-$llvm=llvm-$llvm" >&2 || true
    if ! tool=$(profdata); then
        echo "pgo: no llvm-profdata of LLVM $llvm (rustup component add llvm-tools, or Debian's llvm-$llvm)" >&2
        exit 3
    fi
fi
if ! scripts/need.sh python3=python3 nginx=nginx wrk=wrk h2load=nghttp2-client taskset=util-linux openssl=openssl >&2; then
    echo "pgo: the training run lacks its load generators" >&2
    exit 3
fi

rm -rf "$profiles"
mkdir -p "$profiles"
echo "pgo: 1/3 the instrumented build" >&2
build instrumented "-Cprofile-generate=$profiles"
echo "pgo: 2/3 the training run" >&2
LLVM_PROFILE_FILE=$profiles/weir-%p-%m.profraw python3 bench/train.py "target/pgo/instrumented/$weir" >&2
"$tool" merge -o "$profiles/merged" "$profiles"/*.profraw
# Named after what is in it: cargo builds anew where the flags differ, and does not look into the file.
profile=$profiles/$(sha256sum "$profiles/merged" | cut -c1-16).profdata
mv "$profiles/merged" "$profile"
echo "pgo: 3/3 the build that uses $(find "$profiles" -name '*.profraw' | wc -l) profiles" >&2
build optimised "-Cprofile-use=$profile"
echo "target/pgo/optimised/$weir"
