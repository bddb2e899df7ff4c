#!/usr/bin/env bash
# Every target of targets.h with libFuzzer, one after another: fuzz/all.sh [SECONDS for each]. Without clang it says so and runs nothing
# (tests/unit_fuzz.c, which needs no clang, runs in any case).
set -eu
cd "$(dirname "$0")"
if ! command -v clang >/dev/null; then
    echo "# not run: libFuzzer needs clang"
    exit 0
fi
for target in $(grep -oE '\{"[a-z]+", fuzz_' targets.h | grep -oE '[a-z]+' | grep -v fuzz); do
    ./run.sh "$target" "${1:-20}" >"/tmp/clusteros-fuzz.$$" 2>&1 || { tail -n 40 "/tmp/clusteros-fuzz.$$"; echo "not ok - $target"; exit 1; }
    echo "ok - $target: $(grep -oE 'stat::number_of_executed_units: *[0-9]+' "/tmp/clusteros-fuzz.$$" | grep -oE '[0-9]+') inputs, none of them breaks it"
done
rm -f "/tmp/clusteros-fuzz.$$"
