"""Three processes write one database in WAL mode, a fourth reads: money is moved, never made. Locks, mapped shared memory, files."""

import os
import sqlite3
import sys

PATH, ACCOUNTS, TURNS = "/tmp/bank.db", 20, 4000


def opened() -> sqlite3.Connection:
    base = sqlite3.connect(PATH, timeout=60, isolation_level=None)
    base.execute("pragma synchronous=normal")
    return base


def writer(who: int) -> None:
    base = opened()
    for turn in range(TURNS):
        base.execute("begin immediate")
        base.execute("update account set money = money - ? where id = ?", (turn, (turn * 7 + who) % ACCOUNTS))
        base.execute("update account set money = money + ? where id = ?", (turn, (turn * 3 + who) % ACCOUNTS))
        base.execute("insert into note values (?, ?)", (who, turn))
        base.execute("commit")
    os._exit(0)


base = opened()
assert base.execute("pragma journal_mode=wal").fetchone() == ("wal",)
base.execute("create table account (id integer primary key, money integer)")
base.execute("create table note (who integer, turn integer, primary key (who, turn))")
base.executemany("insert into account values (?, 1000)", [(k,) for k in range(ACCOUNTS)])
children = [os.fork() or writer(who) for who in range(3)]
count = 0
while count < 3 * TURNS:
    total, now = base.execute("select (select sum(money) from account), (select count(*) from note)").fetchone()
    assert total == 1000 * ACCOUNTS, total
    for step in range(count // 100 + 1, now // 100 + 1):
        print(f"step {step}", flush=True)
    count = now
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert base.execute("pragma integrity_check").fetchone() == ("ok",)
state = base.execute("select group_concat(money) from account order by id").fetchone()[0]
print("end", state, flush=True)
sys.exit(0)
