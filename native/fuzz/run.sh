#!/usr/bin/env bash
# Fuzzes one reader with libFuzzer: fuzz/run.sh TARGET [SECONDS]; targets are listed in fuzz/targets.h. What it finds worth keeping goes
# to build/fuzz/TARGET, a crash to build/fuzz/TARGET-*; what should stay is copied into fuzz/corpus by hand. Needs clang.
set -eu
cd "$(dirname "$0")/.."
target=${1:?"a target of fuzz/targets.h, such as codec or fdinfo"} seconds=${2:-60}
mkdir -p "build/fuzz/$target"
flags=(-g -O1 -std=gnu17 -D_GNU_SOURCE -I. -fno-strict-aliasing -Wno-format-zero-length -fsanitize=fuzzer-no-link,address,undefined)
objects=()
for source in base/*.c image/*.c store/*.c kernel/*.c pod/*.c snapshot/*.c restore/*.c vendor/*/*.c rsh/frame.c; do
    object=build/fuzz/${source//\//_}.o
    objects+=("$object")
    [ "$object" -nt "$source" ] || clang "${flags[@]}" -c -o "$object" "$source"
done
wraps=(-Wl,--wrap={io_slurp,io_slurpf,io_mkdirs,mount,recv})
clang "${flags[@]}" "${wraps[@]}" -fsanitize=fuzzer -DTARGET="fuzz_$target" -o "build/fuzz/fuzz_$target" fuzz/libfuzzer.c "${objects[@]}" -lpthread
"build/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=20000 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$target-" "build/fuzz/$target" "fuzz/corpus/$target" &
fuzzer=$!
trap 'kill "$fuzzer" 2>/dev/null || true; rm -rf "/dev/shm/fuzz-stream.$fuzzer" "/dev/shm/fuzz-tree.$fuzzer" "/dev/shm/fuzz-store.$fuzzer"' EXIT
wait "$fuzzer"
