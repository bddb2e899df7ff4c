# A PostgreSQL server under pgbench: four clients, a fixed number of transactions; the sums of all tables must agree in the end.
set -eu
PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1):$PATH
export PGHOST=/tmp PGUSER=bench PGDATABASE=postgres PGDATA=/tmp/data
initdb -A trust -U bench -N --no-instructions >/tmp/initdb.log
pg_ctl -w -l /tmp/server.log -o "-k /tmp -c listen_addresses=127.0.0.1 -c shared_buffers=16MB -c fsync=off" start >/dev/null
pgbench -q -i -s 1 2>/dev/null >&2
PGHOST=127.0.0.1
for step in $(seq 1 25); do
    pgbench -n -c 4 -j 2 -t 40 >/tmp/bench.log 2>&1 || { cat /tmp/bench.log; exit 1; }
    echo "step $step"
done
sums=$(psql -At -c 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history),
    (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers), (select count(*) from pgbench_history)')
pg_ctl -w -m fast stop >/dev/null
echo "end $sums"
