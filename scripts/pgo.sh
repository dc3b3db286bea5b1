#!/usr/bin/env bash
# pgo.sh: builds weir with a profile of a training run, and prints where it is.
#   1. instrumented build   2. bench/train.py puts a mixed load on it   3. the build that uses what was counted
#   4. the same training once more, after which llvm-bolt lays out the machine code by what follows what (BOLT=off leaves that out)
# Exit status 3, and a word on stderr, where what it takes is not there: an llvm-profdata of rustc's LLVM, and load generators.
# Without llvm-bolt of that LLVM the result is that of step 3.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profiles=$PWD/target/pgo/profiles
weir=$host/dist/weir

# A tool of LLVM: of the toolchain itself where rustup has llvm-tools, else of the distribution; an older one cannot read the format.
tool() {
    local of_rustc
    of_rustc=$(rustc --print sysroot)/lib/rustlib/$host/bin/$1
    for candidate in "$of_rustc" "$1-$llvm" "/usr/lib/llvm-$llvm/bin/$1"; do
        if command -v "$candidate" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# build FOLDER FLAGS. --target keeps the flags away from build scripts, which would leave profiles of their own.
build() { RUSTFLAGS="${RUSTFLAGS:-} $2" cargo build --profile dist --locked --bin weir --target "$host" --target-dir "target/pgo/$1" >&2; }

if ! profdata=$(tool llvm-profdata); then
    scripts/need.sh "llvm-profdata-$llvm=llvm-$llvm" >&2 || true
    if ! profdata=$(tool llvm-profdata); then
        echo "pgo: no llvm-profdata of LLVM $llvm (rustup component add llvm-tools, or Debian's llvm-$llvm)" >&2
        exit 3
    fi
fi
if ! scripts/need.sh python3=python3 nginx=nginx wrk=wrk h2load=nghttp2-client taskset=util-linux openssl=openssl >&2; then
    echo "pgo: the training run lacks its load generators" >&2
    exit 3
fi

bolt=
if [ "${BOLT:-on}" != off ]; then
    tool llvm-bolt >/dev/null || scripts/need.sh "llvm-bolt-$llvm=bolt-$llvm" >&2 || true
    bolt=$(tool llvm-bolt) && merge=$(tool merge-fdata) || echo "pgo: no llvm-bolt of LLVM $llvm: the code's layout stays the linker's" >&2
fi

rm -rf "$profiles"
mkdir -p "$profiles"
echo "pgo: 1/4 the instrumented build" >&2
build instrumented "-Cprofile-generate=$profiles"
echo "pgo: 2/4 the training run" >&2
LLVM_PROFILE_FILE=$profiles/weir-%p-%m.profraw python3 bench/train.py "target/pgo/instrumented/$weir" >&2
"$profdata" merge -o "$profiles/merged" "$profiles"/*.profraw
# Named after what is in it: cargo builds anew where the flags differ, and does not look into the file.
profile=$profiles/$(sha256sum "$profiles/merged" | cut -c1-16).profdata
mv "$profiles/merged" "$profile"
echo "pgo: 3/4 the build that uses $(find "$profiles" -name '*.profraw' | wc -l) profiles" >&2
# What moves code has to know all that refers to it.
build optimised "-Cprofile-use=$profile${bolt:+ -Clink-arg=-Wl,--emit-relocs}"
optimised=target/pgo/optimised/$weir
if [ -z "$bolt" ]; then
    echo "$optimised"
    exit
fi

echo "pgo: 4/4 the layout" >&2
# Written by hand in assembler, and fast as it is: what looks odd there stays as it is.
crypto='aws_lc_.*,ring_core_.*'
laid_out=target/pgo/laid-out
mkdir -p "$laid_out"
"$bolt" "$optimised" -o "$laid_out/counting" -skip-funcs="$crypto" -instrument --instrumentation-file="$profiles/layout" --instrumentation-file-append-pid >&2
python3 bench/train.py "$laid_out/counting" >&2
"$merge" "$profiles"/layout.* >"$profiles/layout" 2>/dev/null
"$bolt" "$optimised" -o "$laid_out/weir" -data="$profiles/layout" -reorder-blocks=ext-tsp -reorder-functions=cdsort -split-functions \
    -split-all-cold -split-eh -icf=safe -skip-funcs="$crypto" -dyno-stats >&2
echo "$laid_out/weir"
