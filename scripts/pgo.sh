#!/usr/bin/env bash
# pgo.sh: builds weir with the profile of a training run, and prints the path of the binary.
#   1. an instrumented build   2. bench/train.py runs a mixed load on it   3. the build that uses the profile
#   4. the same training run for llvm-bolt, which then changes the order of the machine code (BOLT=off skips this step)
# If a tool is missing (an llvm-profdata of rustc's LLVM, or the load generators), it prints a message to stderr and exits with
# status 3. Without an llvm-bolt of that LLVM, the result is that of step 3. The results of both training runs are kept in
# target/pgo/inputs. INPUTS=FOLDER takes those of an earlier run instead of training, and builds the same binary again.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
inputs=${INPUTS:+$(realpath "$INPUTS")}
kept=target/pgo/inputs
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profiles=$PWD/target/pgo/profiles
weir=$host/dist/weir

# Finds an LLVM tool: in the toolchain if rustup has llvm-tools, else in the distribution. An older LLVM cannot read the format.
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

# build FOLDER FLAGS
build() { scripts/build.sh "target/pgo/$1" "$2" >/dev/null; }

if ! profdata=$(tool llvm-profdata); then
    scripts/need.sh "llvm-profdata-$llvm=llvm-$llvm" >&2 || true
    if ! profdata=$(tool llvm-profdata); then
        echo "pgo: no llvm-profdata of LLVM $llvm (rustup component add llvm-tools, or Debian's llvm-$llvm)" >&2
        exit 3
    fi
fi
if [ -z "$inputs" ] && ! scripts/need.sh python3=python3 nginx=nginx wrk=wrk h2load=nghttp2-client taskset=util-linux openssl=openssl >&2; then
    echo "pgo: the training run lacks its load generators" >&2
    exit 3
fi

bolt=
if [ "${BOLT:-on}" != off ]; then
    tool llvm-bolt >/dev/null || scripts/need.sh "llvm-bolt-$llvm=bolt-$llvm" >&2 || true
    bolt=$(tool llvm-bolt) && merge=$(tool merge-fdata) || echo "pgo: no llvm-bolt of LLVM $llvm: the code's layout stays the linker's" >&2
fi

if [ -n "$inputs" ] && [ ! -e "$inputs/layout" ]; then bolt=; fi
rm -rf "$profiles"
mkdir -p "$profiles" "$kept"
if [ -n "$inputs" ]; then
    cp "$inputs/merged" "$profiles/merged"
else
    echo "pgo: 1/4 the instrumented build" >&2
    build instrumented "-Cprofile-generate=$profiles"
    echo "pgo: 2/4 the training run" >&2
    LLVM_PROFILE_FILE=$profiles/weir-%p-%m.profraw python3 bench/train.py "target/pgo/instrumented/$weir" >&2
    "$profdata" merge -o "$profiles/merged" "$profiles"/*.profraw
    rm -rf "$kept"
    mkdir -p "$kept"
    cp "$profiles/merged" "$kept/merged"
fi
# The name contains a hash of the content. Cargo rebuilds if the flags differ, but it does not read the file.
profile=$profiles/$(sha256sum "$profiles/merged" | cut -c1-16).profdata
mv "$profiles/merged" "$profile"
echo "pgo: 3/4 the build that uses $(find "$profiles" -name '*.profraw' | wc -l) profiles" >&2
# llvm-bolt needs all relocations to move code.
build optimised "-Cprofile-use=$profile${bolt:+ -Clink-arg=-Wl,--emit-relocs}"
optimised=target/pgo/optimised/$weir
if [ -z "$bolt" ]; then
    echo "$optimised"
    exit
fi

echo "pgo: 4/4 the layout" >&2
# Cryptography is hand-written assembler and already fast. llvm-bolt must not change it.
crypto='aws_lc_.*,ring_core_.*'
laid_out=target/pgo/laid-out
mkdir -p "$laid_out"
if [ -n "$inputs" ]; then
    cp "$inputs/layout" "$profiles/layout"
else
    "$bolt" "$optimised" -o "$laid_out/counting" -skip-funcs="$crypto" -instrument --instrumentation-file="$profiles/layout" --instrumentation-file-append-pid >&2
    python3 bench/train.py "$laid_out/counting" >&2
    "$merge" "$profiles"/layout.* >"$profiles/layout" 2>/dev/null
    cp "$profiles/layout" "$kept/layout"
fi
"$bolt" "$optimised" -o "$laid_out/weir" -data="$profiles/layout" -reorder-blocks=ext-tsp -reorder-functions=cdsort -split-functions \
    -split-all-cold -split-eh -icf=safe -skip-funcs="$crypto" -dyno-stats >&2
echo "$laid_out/weir"
