#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS: fuzzes a target of tests/fuzz or of a unit test with libFuzzer, by cargo-bolero. `all` takes each target in turn.
# The corpus is kept in target/fuzz/TARGET and starts with the seeds. A finding is a file in target/fuzz/TARGET/crashes: make it a seed.
set -euo pipefail
cd "$(dirname "$0")/.."

# The targets with the names of their tests.
declare -A tests
for target in tests/fuzz/seeds/*/; do
    target=$(basename "$target")
    tests[$target]=$target::$target
done
tests[response_head]=pool::http1::fuzz_tests::response_head
tests[response_chunks]=pool::http1::fuzz_tests::response_chunks

target=${1:-} seconds=${2:-300}
if [ "$target" = all ]; then
    for each in $(printf '%s\n' "${!tests[@]}" | sort); do "$0" "$each" "$seconds"; done
    exit
fi
if [ -z "$target" ] || [ -z "${tests[$target]:-}" ]; then
    echo "fuzz: choose TARGET, or run make fuzz-all: $(printf '%s\n' "${!tests[@]}" | sort | paste -sd' ')" >&2
    exit 64
fi

tool=$(scripts/cargo_tool.sh cargo-bolero 0.13.4)
folder=$PWD/target/fuzz/$target
mkdir -p "$folder/corpus" "$folder/crashes"
# A first byte of 0xff says that the rest is taken as it is.
for seed in tests/fuzz/seeds/"$target"/*; do
    [ -e "$seed" ] || continue
    { printf '\xff'; cat "$seed"; } >"$folder/corpus/seed-$(basename "$seed")"
done
# Stable Rust runs libFuzzer without a sanitizer, which finds panics and failed checks.
"$tool" test "${tests[$target]}" --package weir --engine libfuzzer --sanitizer NONE --profile fuzz --target-dir target/fuzz/build \
    --corpus-dir "$folder/corpus" --crashes-dir "$folder/crashes" -T "${seconds}s" --max-input-length 2048 || {
    echo "fuzz: $target has a finding in $folder/crashes. Without its first byte, if that is 0xff, it is a seed" >&2
    exit 1
}
echo "fuzz: $target: $seconds s without a finding, $(find "$folder/corpus" -type f | wc -l) inputs in the corpus"
