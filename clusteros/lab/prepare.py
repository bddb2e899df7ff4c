"""Between the database and the rest of a lab: migrations, first users and tokens, then the start of everything that waits.

Runs once per start under the supervisor; it is restarted until it has succeeded, and everything in it may be done twice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xmlrpc.client
from contextlib import suppress
from pathlib import Path

import psycopg

from clusteros.lab import embedded, supervise
from clusteros.lab.layout import FRONT_ADDRESS, FRONT_PORT, REPOSITORY, Lab

ALREADY_STARTED = 60


def _manage(*arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    run = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"manage.py {' '.join(arguments)} ended with status {run.returncode}")
    return run.stdout


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    os.replace(temporary, path)


def _start(supervisor: object, name: str) -> None:
    try:
        supervisor.startProcess(name, False)  # type: ignore[attr-defined]
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != ALREADY_STARTED:
            raise


def _wait_for_postgres(lab: Lab) -> None:
    deadline = time.monotonic() + embedded.POSTGRES_START_TIMEOUT_S
    while not embedded._postgres_answers(lab.front / "postgres"):
        if time.monotonic() > deadline:
            raise SystemExit("PostgreSQL does not answer")
        time.sleep(0.05)


def _is_new(lab: Lab) -> bool:
    """Nobody is known yet: a first start, or the database was lost."""
    with psycopg.connect(embedded.postgres_url(lab.front / "postgres")) as connection:
        row = connection.execute("SELECT count(*) FROM auth_user").fetchone()
    return row is None or row[0] == 0


def _invite(lab: Lab, token: str) -> None:
    for name in lab.node_names():
        state = lab.node_state(name)
        if lab.node(name).exists() or not (lab.directory / "destroyed" / name).exists():
            state.mkdir(parents=True, exist_ok=True)
            _write_private(state / "join.json", json.dumps({"url": f"http://{FRONT_ADDRESS}:{FRONT_PORT}", "token": token}))


def _let_messages_pass(pid: int) -> None:
    """A cluster's Redis has a processor of its own: here the word that lets a job run on would wait behind ranks that heard it first."""
    with suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _start_all(lab: Lab, nodes: list[str]) -> None:
    supervisor = supervise.control(lab.socket)
    _let_messages_pass(int(supervisor.getProcessInfo("redis")["pid"]))
    for name in ("web", "scheduler", "control", *nodes):
        _start(supervisor, name)


def _mark_as_new(lab: Lab) -> None:
    """On disk before anybody is known in the database: whoever is ended from here on goes on from these marks."""
    lab.login_file.unlink(missing_ok=True)
    if any((lab.node_state(name) / "certificates").exists() for name in lab.node_names()):
        lab.record_lost_mark.touch()


def _rebuild_record(lab: Lab, nodes: list[str]) -> None:
    print(_manage("rebuild_record", "--nodes", str(len(nodes))))
    lab.record_lost_mark.unlink()


def main() -> None:
    """Prepare the database and start the rest; a database that was lost is made anew from what the nodes keep."""
    lab = Lab(Path(sys.argv[1]))
    _wait_for_postgres(lab)
    embedded.ensure_database(lab.front / "postgres")
    _manage("migrate", "--no-input", "-v", "0")
    if _is_new(lab):
        _mark_as_new(lab)
    if not lab.login_file.exists():  # a lab that starts again keeps its users and tokens
        _write_private(lab.login_file, json.dumps(json.loads(_manage("bootstrap", "--json")), indent=1))
    _invite(lab, json.loads(lab.login_file.read_text())["join_token"])
    nodes = [name for name in lab.node_names() if lab.node_state(name).exists()]
    _start_all(lab, nodes)
    if lab.record_lost_mark.exists():
        _rebuild_record(lab, nodes)


if __name__ == "__main__":
    main()
