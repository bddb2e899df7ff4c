"""System tests: a real cluster of three nodes on this machine (a lab), a real parallel job on it, and what is lost on the way.

One lab serves all tests of a session and is ended with it, also when tests fail; only namespaces of its own and the loopback are used.
"""

from __future__ import annotations

import base64
import logging
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteros.client import Cluster, ClusterError
from clusteros.lab import lifecycle, supervise
from clusteros.lab.layout import REPOSITORY, Lab

logging.getLogger("httpx").setLevel(logging.WARNING)  # every poll is a line otherwise
FINAL = {"completed", "failed", "cancelled"}
PODS = 3


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three nodes, up."""
    lab = Lab(REPOSITORY / "var" / "test-lab")
    lifecycle.down(lab, wipe=lab.directory.exists(), say=lambda text: None)
    os.environ["CLUSTEROS_LOGIN"] = str(REPOSITORY / "var" / "test-login.json")
    os.environ["CLUSTEROS_FILL_DELAY_US"] = "100000"  # memory that comes when a job runs already comes slowly: tests strike in between
    lifecycle.up(lab, port=8190)
    yield lab
    lifecycle.down(lab, wipe=not os.environ.get("KEEP_LAB"))


def _client(lab: Lab) -> Cluster:
    return Cluster(lifecycle.url_of(lab), lifecycle.read_login(lab)["admin"]["token"])


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    """A client of the lab, as administrator."""
    with _client(lab) as client:
        yield client
    with _client(lab) as client:  # a test may have lost every token
        for job in client.jobs():
            if job["state"] not in FINAL:
                client.cancel(job["id"])
        for node in client.nodes():
            if node["state"] in ("draining", "drained"):
                client.undrain(node["name"])


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled test program."""
    program = tmp_path_factory.mktemp("ring") / "ring"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(Path(__file__).parent / "ring.c")], check=True)
    return program


@pytest.fixture
def seed() -> random.Random:
    """Random instants of this test; the seed is printed and can be set with SEED=…"""
    number = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"SEED={number}")
    return random.Random(number)


def wait_for(what: str, ready: Callable[[], Any], timeout_s: float = 60.0, story: Callable[[], str] = str) -> Any:
    """The first true value of `ready`; the cluster may be out of reach meanwhile. `story` tells what happened instead."""
    deadline, last = time.monotonic() + timeout_s, ""
    while time.monotonic() < deadline:
        try:
            if found := ready():
                return found
        except (ClusterError, OSError) as error:
            last = str(error)
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {timeout_s:.0f} s {last}\n{story()}")


class RingJob:
    """A ring on three pods, and what tests ask of it."""

    def __init__(self, cluster: Cluster, ring: Path, rounds: int, **more: Any) -> None:
        self.cluster, self.rounds = cluster, rounds
        files = [{"path": "ring", "data": base64.b64encode(ring.read_bytes()).decode(), "executable": True}]
        spec: dict[str, Any] = {
            "name": "ring", "command": ["./ring", str(rounds), str(PODS)], "files": files, "pods": PODS, "ranks_per_pod": 1,
            "cores_per_rank": 1, "mem_bytes": 256 << 20, "walltime_s": 900, "interval_s": 0, "keep": 100,
        }  # fmt: skip
        self.id = str(cluster.submit({**spec, **more})["id"])  # type: ignore[typeddict-item]

    def get(self) -> dict[str, Any]:
        """The job as REST shows it."""
        return dict(self.cluster.job(self.id))

    def story(self) -> str:
        """How it stands and what happened to it, for a test that fails."""
        events = [str(event) for event in self.cluster.job_events(self.id)]
        return "\n".join([str(self.get()), str(self.cluster.runs(self.id)), *events])

    def run(self) -> dict[str, Any]:
        """Its newest run."""
        return max(self.cluster.runs(self.id), key=lambda run: run["epoch"])

    def wait_running(self, epoch: int = 0, timeout_s: float = 90.0) -> None:
        """Until it runs with an epoch above `epoch`."""
        wait_for("the job running", lambda: self.get()["state"] == "running" and self.run()["epoch"] > epoch, timeout_s)

    def generations(self) -> list[dict[str, Any]]:
        """Complete ones, oldest first."""
        found = [dict(g) for g in self.cluster.generations(self.id) if g["state"] == "complete"]
        return sorted(found, key=lambda g: g["number"])

    def settled(self, number: int, timeout_s: float = 90.0) -> dict[str, Any]:
        """The generation when it is neither taking nor storing any more."""

        def final() -> dict[str, Any] | None:
            generation = dict(self.cluster.generation(self.id, number))
            return generation if generation["state"] not in ("taking", "storing") else None

        return dict(wait_for(f"generation {number} settled", final, timeout_s, self.story))

    def take(self) -> dict[str, Any]:
        """A complete generation; one that fails because of what was just lost is tried again."""

        def taken() -> dict[str, Any] | None:
            if self.get()["state"] in FINAL:
                pytest.fail(f"the job ended before a generation of it was complete\n{self.story()}")
            number = self.cluster.checkpoint(self.id)["number"]
            generation = self.settled(number)
            return generation if generation["state"] == "complete" else None

        return dict(wait_for("a complete generation", taken, 120, self.story))

    def checksum(self, timeout_s: float = 180.0) -> str:
        """What rank 0 printed at the end of a job that ended well."""
        ended = wait_for("the end of the job", lambda: (j := self.get())["state"] in FINAL and j, timeout_s, self.story)
        log = log_text(self.cluster, self.id)
        assert ended["state"] == "completed", f"{ended['state']}: {log[-2000:]}"
        lines = wait_for("the last line", lambda: [x for x in log_text(self.cluster, self.id).splitlines() if "done" in x], 20)
        assert len(lines) == 1, lines
        return str(lines[0])


def log_text(cluster: Cluster, job: str) -> str:
    """Standard output of pod 0."""
    return str(cluster.log(job, pod=0, stream="stdout")["text"])


@pytest.fixture
def submit(cluster: Cluster, ring: Path) -> Callable[..., RingJob]:
    """Submit a ring of so many rounds."""
    return lambda rounds, **more: RingJob(cluster, ring, rounds, **more)


def supervisor(lab: Lab) -> Any:
    """Control of the lab's processes."""
    return supervise.control(lab.socket)
