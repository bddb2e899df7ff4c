# Pipelines, subshells, here-documents, a coprocess, background jobs with wait, arrays, process substitution, traps.
set -eu -o pipefail
count=0 state=start
trap 'count=$((count + 1))' USR2
coproc REVERSE { while read -r line; do printf '%s\n' "$line" | rev; done; }
for step in $(seq 0 59); do
    printf '%s\n' "$state" >&"${REVERSE[1]}"
    read -r back <&"${REVERSE[0]}"
    state=$(seq 1 300 | while read -r n; do echo "$n $back"; done | sort -k1,1r | md5sum | cut -d' ' -f1)
    (for k in 1 2 3; do echo "$state$k"; done | md5sum >/tmp/one.$step) &
    one=$!
    md5sum <(echo "$back") | cut -c1-32 >/tmp/two.$step &
    wait -n $one $!
    wait $one $!
    kill -USR2 $$
    state=$(cat /tmp/one.$step /tmp/two.$step <<<"$state" | md5sum | cut -c1-32)
    rm /tmp/one.$step /tmp/two.$step
    echo "step $step $state"
done
exec {REVERSE[1]}>&-
echo "end $count"
