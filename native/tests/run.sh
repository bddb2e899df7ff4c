#!/usr/bin/env bash
# Runs every unit test (built under sanitizers) and every tests/t_* program; all print TAP. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 again=()
count() { # sets ok and bad from $out and $status
    local plan
    ok=$(grep -cE '^ok ' <<<"$out"); bad=$(grep -cE '^not ok ' <<<"$out")
    plan=$(grep -oE '^1\.\.[0-9]+' <<<"$out" | head -n 1 | cut -c4-)
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; echo "not ok - $* ended with status $status"; fi
    if [ $((ok + bad)) -eq 0 ]; then bad=1; echo "not ok - $* ran no test"; fi
    if [ -n "$plan" ] && [ "$plan" -ne $((ok + bad)) ]; then bad=$((bad + 1)); echo "not ok - $*: planned $plan, ran $ok"; fi
}
run() {
    local out status ok bad
    out=$(timeout 600 "$@" 2>&1); status=$?
    printf '# %s\n%s\n' "$*" "$out"
    count "$@"
    if [ "$bad" -gt 0 ]; then # instants are random and machines are shared: once more, both shown, and said at the end
        again+=("$*")
        out=$(timeout 600 "$@" 2>&1); status=$?
        printf '# second try: %s\n%s\n' "$*" "$out"
        count "$@"
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
}
only=${1:-}
for test in build/tests/unit_* tests/t_*; do
    [ -x "$test" ] && [ -f "$test" ] || continue
    case $test in *.d) continue ;; esac
    case $test in *"$only"*) ;; *) continue ;; esac
    case $test in *.py) run python3 "$test" ;; *) run "$test" ;; esac
done
[ ${#again[@]} -eq 0 ] || printf "# tried again: %s\n" "${again[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
