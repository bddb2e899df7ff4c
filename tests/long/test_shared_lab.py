"""A directory that the lab's nodes share: all nodes that hold a job's images are lost for good, and a new one brings the job back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusteros.client import Cluster
from clusteros.lab import lifecycle, supervise
from clusteros.lab.layout import REPOSITORY, Lab
from nodes.agent.shared import make_ready
from tests.system.conftest import RingJob, ring, wait_for  # noqa: F401

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="a lab's nodes need root"), pytest.mark.timeout(600)]
LAST = "node4"
ROUNDS = 1500  # it is still at work when its nodes go


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Three nodes and the directory; a fourth that is not there yet."""
    lab = Lab(REPOSITORY / "var" / "test-shared-lab")
    lifecycle.down(lab, wipe=lab.directory.exists(), say=lambda text: None)
    os.environ["CLUSTEROS_LOGIN"] = str(REPOSITORY / "var" / "test-shared-login.json")
    lab.shared.mkdir(parents=True)
    make_ready(lab.shared)
    lifecycle.up(lab, nodes=4, port=8193)
    yield lab
    lifecycle.down(lab, wipe=not os.environ.get("KEEP_LAB"))


def test_a_job_survives_the_loss_of_every_node_that_held_it(lab: Lab, ring: Path) -> None:  # noqa: F811
    with Cluster(lifecycle.url_of(lab), lifecycle.read_login(lab)["admin"]["token"]) as cluster:
        wait_for("the fourth node drained", lambda: cluster.drain(LAST) and cluster.node(LAST)["state"] == "drained", 60)
        supervise.control(lab.socket).stopProcess(LAST)
        expected = RingJob(cluster, ring, ROUNDS).checksum()
        job = RingJob(cluster, ring, ROUNDS)
        job.wait_running()
        taken = job.take()
        wait_for("every image in the directory", lambda: len(list(lab.shared.glob("owners/*/images/*/manifest"))) == 3, 60, job.story)

        def recorded() -> bool:
            return [(place["ok"], place["images"]) for place in cluster.store()["shared"]] == [(True, 3)]

        wait_for("all of them in the record", recorded, 10, lambda: str(cluster.store()["shared"]))
        assert job.get()["state"] == "running"
        for name in ("node1", "node2", "node3"):
            lifecycle.destroy_node(lab, name)
        assert not (lab.node_state(LAST) / "owners").exists(), "it never held anything"
        supervise.control(lab.socket).startProcess(LAST)
        wait_for("the new node", lambda: cluster.undrain(LAST) and cluster.node(LAST)["state"] == "up", 60)
        wait_for("the job on it", lambda: job.get()["state"] == "running" and job.run()["epoch"] > 1, 120, job.story)
        assert {pod["node"] for pod in job.run()["pods"]} == {LAST}
        assert job.get()["last_resume"]["generation"] == taken["number"]
        assert job.checksum() == expected
