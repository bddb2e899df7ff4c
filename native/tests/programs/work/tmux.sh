# A tmux server with a shell in its window: keys go in, the screen is read.
set -eu
export TERM=screen HOME=/tmp SHELL=/bin/bash
tmux -S /tmp/tmux.sock -f /dev/null new-session -d -x 100 -y 30 'exec bash --norc -i'
for step in $(seq 1 40); do
    tmux -S /tmp/tmux.sock send-keys "n=\$((n + $step)); echo sum-\$n-$step > /tmp/sum.$step.new; mv /tmp/sum.$step.new /tmp/sum.$step" Enter
    until [ -e /tmp/sum.$step ]; do sleep 0.02; done
    echo "step $step $(cat /tmp/sum.$step)"
done
tmux -S /tmp/tmux.sock send-keys 'sleep 1000 &' Enter 'jobs > /tmp/jobs' Enter 'kill %1' Enter 'clear; echo last line' Enter
until tmux -S /tmp/tmux.sock capture-pane -p | grep -q '^last line'; do sleep 0.02; done
grep -q 'Running.*sleep 1000' /tmp/jobs
tmux -S /tmp/tmux.sock kill-server
echo end
