"""Unmodified launchers start on all pods of a job with no argument but the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.node.bodies import spec_body
from tests.node.harness import TestNode, wait_for

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="the namespaces of a node need root"), pytest.mark.timeout(240)]
RING = Path(__file__).parent / "ring.c"
PODS = 3


def launchers() -> list[tuple[str, str]]:
    """(mpicc, mpirun) of every MPI on this machine. At least one must be there: `make test` installs one."""
    found = []
    for name in ("openmpi", "mpich"):
        compiler, launcher = shutil.which(f"mpicc.{name}"), shutil.which(f"mpirun.{name}")
        if compiler and launcher and not finalize_may_hang(launcher):
            found.append((compiler, launcher))
    for prefix in sorted((Path(__file__).resolve().parents[2] / "var" / "mpi").glob("*")):
        if (prefix / "bin" / "mpirun").exists():
            found.append((str(prefix / "bin" / "mpicc"), str(prefix / "bin" / "mpirun")))
    return found


def finalize_may_hang(launcher: str) -> bool:
    """MPICH before 4.2 over UCX, on any cluster and a busy machine (pmodels/mpich, pull request 6596): no test of ours."""
    words = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"HYDRA.*?Version:\s*(\d+)\.(\d+)", words, re.DOTALL)
    return bool(version) and (int(version[1]), int(version[2])) < (4, 2)


def compile_ring(mpicc: str, folder: Path) -> bytes:
    subprocess.run([mpicc, "-O2", "-o", str(folder / "ring"), str(RING)], check=True, timeout=60)
    return (folder / "ring").read_bytes()


def start_job(node: TestNode, program: bytes, command: list[str], **changes: Any) -> list[dict[str, Any]]:
    """Three pods side by side; pod 0, which has the command, last."""
    places = [{"pod": k, "node": "node1", "underlay_ip": "192.0.2.1", "ip": f"10.77.0.{k + 1}"} for k in range(PODS)]
    files = [node.offer("ring", program, executable=True)]
    shared = {"job": str(uuid.uuid4()), "run": str(uuid.uuid4()), "pods": places, **changes}
    bodies = []
    for k in reversed(range(PODS)):
        body = spec_body(**shared, pod=k, hostname=f"pod-{k}") | {"files": files, "command": command if k == 0 else None}
        node.control.send("start_pod", body)
        node.control.wait_report("pod", run=body["run"], pod=k, state="running")
        bodies.insert(0, body)
    return bodies


def said(node: TestNode, run: str) -> list[str]:
    return node.control.text(run, 0, "stdout").decode().splitlines()


@pytest.mark.parametrize(("mpicc", "mpirun"), launchers())
def test_mpirun_starts_its_ranks_on_every_pod(node: TestNode, tmp_path: Path, mpicc: str, mpirun: str) -> None:
    bodies = start_job(node, compile_ring(mpicc, tmp_path), [mpirun, "./ring", "20"])
    run = bodies[0]["run"]
    ended = node.control.wait_report("pod", 60, run=run, pod=0, state="ended")
    assert ended["exit_status"] == 0, node.control.text(run, 0, "stderr").decode()
    lines = wait_for("the ranks' words", lambda: len([line for line in said(node, run) if "rank" in line]) == 6 and said(node, run))
    for rank in range(6):
        assert f"rank {rank} of 6 on pod-{rank // 2}" in lines


def test_an_mpi_is_there() -> None:
    assert launchers(), "no MPI is installed: apt-get install openmpi-bin libopenmpi-dev"
