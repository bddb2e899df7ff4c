"""A job that runs before its memory is there, on a node whose disk has just lost some of it: another replica serves, and nobody notices."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusteros.client import Cluster
from clusteros.lab import supervise
from clusteros.lab.layout import Lab
from tests.system import faults
from tests.system.conftest import RingJob, wait_for

ROUNDS = 500
PAGE = 900  # of the table, far behind what comes first


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program."""
    program = tmp_path_factory.mktemp("table") / "table"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(Path(__file__).parent / "table.c")], check=True)
    return program


@contextmanager
def lazy(lab: Lab, cluster: Cluster, node: str) -> Iterator[None]:
    """This node restores whatever it restores lazily."""
    path = lab.node_state(node) / "node.json"
    before = path.read_bytes()
    try:
        set_and_restart(lab, cluster, node, json.dumps({**json.loads(before), "lazy_restore_bytes": 1}).encode())
        yield
    finally:
        set_and_restart(lab, cluster, node, before)


def set_and_restart(lab: Lab, cluster: Cluster, node: str, settings: bytes) -> None:
    """node.json, and a node service that read it."""
    service = supervise.control(lab.node_socket(node))
    (lab.node_state(node) / "node.json").write_bytes(settings)
    service.stopProcess("service")
    service.startProcess("service")
    wait_for("the node up", lambda: cluster.node(node)["state"] == "up", 30)


def spoil(lab: Lab, node: str) -> int:
    """One byte of one chunk, in every pack of the node that has it; how many."""
    spoiled, words = 0, b"table page %06d" % PAGE
    for pack in lab.node_state(node).glob("owners/*/store/packs/*.pack"):
        content = pack.read_bytes()
        at = content.find(words)
        if at < 0:
            continue
        with pack.open("r+b") as file:
            file.seek(at + 100)
            file.write(bytes([content[at + 100] ^ 1]))
        spoiled += 1
    return spoiled


def fillers(lab: Lab) -> list[int]:
    return [pid for pid, argv in faults.engine_pids(lab) if argv[1:2] == ["fill"]]


def test_memory_that_is_damaged_when_the_job_runs_already_comes_from_a_replica(lab: Lab, cluster: Cluster, table: Path) -> None:
    job = RingJob(cluster, table, ROUNDS, name="table", pods=1, command=["./ring", str(ROUNDS)])  # the name that the program gets there
    job.wait_running()
    node, epoch, taken = str(job.run()["pods"][0]["node"]), job.run()["epoch"], job.take()
    told = lab.node_state(node) / "log" / "service.log"
    with lazy(lab, cluster, node):
        cluster.rollback(job.id, taken["number"], placement=[node])
        wait_for("somebody who brings the memory", lambda: fillers(lab), 60, job.story)
        assert spoil(lab, node) > 0
        wait_for("the damage was met", lambda: "waits for memory" in told.read_text(), 30, job.story)
        job.wait_running(epoch)
        assert job.checksum() == f"table: done {ROUNDS}"
        assert job.run()["epoch"] == epoch + 1, "nothing was restored a second time"
