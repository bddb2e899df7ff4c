#!/usr/bin/env bash
# Fuzzes one reader with libFuzzer: fuzz/run.sh TARGET [SECONDS]; targets are listed in fuzz/targets.h. What it finds worth keeping goes
# to fuzz/corpus/TARGET, a crash to build/fuzz/. Needs clang.
set -eu
cd "$(dirname "$0")/.."
target=${1:?"a target: codec, manifest, pack, chunk, stream or tree"} seconds=${2:-60}
mkdir -p build/fuzz "build/fuzz/$target"
clang -g -O1 -std=gnu17 -D_GNU_SOURCE -I. -fno-strict-aliasing -fsanitize=fuzzer,address,undefined -Wno-format-zero-length -DTARGET="fuzz_$target" \
    -o "build/fuzz/fuzz_$target" fuzz/libfuzzer.c base/*.c image/*.c store/*.c vendor/lz4/lz4.c -lpthread
"build/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=20000 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$target-" "build/fuzz/$target" "fuzz/corpus/$target"
