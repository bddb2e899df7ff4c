"""Faults that are not a killed process: a node cut off, a front end away, a damaged image, a full disk, a node lost in a snapshot."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clusteros.client import Cluster
from clusteros.lab import supervise
from clusteros.lab.layout import Lab
from clusteros.owners import owner_tag
from tests.system import faults
from tests.system.conftest import RingJob, wait_for

Submit = Callable[..., RingJob]


def inside(lab: Lab, *command: str) -> str:
    """Run a command in the lab's own namespaces (as its front end)."""
    pid = next(faults.lab_pids(lab))
    run = subprocess.run(["nsenter", "-t", str(pid), "-n", "-m", "-p", *command], capture_output=True, text=True, check=True)
    return run.stdout


def inside_node(lab: Lab, node: str, *command: str) -> str:
    """Run a command in a node's own namespaces."""
    pid = faults.node_pid(lab, node)
    return subprocess.run(["nsenter", "-t", str(pid), "-a", *command], capture_output=True, text=True, check=True).stdout


def unmounted(lab: Lab, node: str, place: str) -> bool:
    """Whether it could be unmounted: an engine that has just told its end may still have files open there."""
    try:
        inside_node(lab, node, "umount", place)
    except subprocess.CalledProcessError:
        return False
    return True


@contextmanager
def cut_off(lab: Lab, node: str) -> Iterator[None]:
    """The node's wire is out."""
    inside(lab, "ip", "link", "set", node, "down")
    try:
        yield
    finally:
        inside(lab, "ip", "link", "set", node, "up")


def begun(submit: Submit, rounds: int = 300) -> tuple[str, RingJob]:
    """What an undisturbed run computes, and a job that runs now and shall compute it too."""
    right = submit(rounds).checksum()
    job = submit(rounds)
    job.wait_running()
    return right, job


def node_of(job: RingJob, pod: int) -> str:
    """Where a pod of the newest run is."""
    return str(next(p["node"] for p in job.run()["pods"] if p["index"] == pod))


def pod_states(job: RingJob) -> list[str]:
    """States of the newest run's pods."""
    return [str(p["state"]) for p in job.run()["pods"]]


def test_a_node_that_is_cut_off_freezes_its_pods_and_the_job_comes_back_elsewhere(
    lab: Lab, cluster: Cluster, submit: Submit
) -> None:
    right, job = begun(submit)
    job.take()
    epoch, node = job.run()["epoch"], node_of(job, 1)
    with cut_off(lab, node):
        job.wait_running(epoch, 90)
        assert node not in {p["node"] for p in job.run()["pods"]}
        leases = [p.read_text().split() for p in (lab.node_state(node) / "pods").glob("*/lease")]
        assert leases, "the pod of the node that is cut off is gone"
        assert all(frozen == "1" for _epoch, _until, _suspended, frozen in leases), leases
    wait_for("the node up", lambda: cluster.node(node)["state"] == "up", 60)
    wait_for("the end of the old pod", lambda: not [p for p in cluster.node(node)["pods"] if p["state"] == "running"], 60)
    assert job.checksum() == right


def test_a_long_outage_of_the_front_end_costs_time_and_no_work(lab: Lab, cluster: Cluster, submit: Submit) -> None:
    right, job = begun(submit)
    epoch, supervisor = job.run()["epoch"], supervise.control(lab.socket)
    for name in ("web", "scheduler", "control"):
        supervisor.stopProcess(name)
    time.sleep(16)  # longer than a lease
    progress = _progress(lab)
    time.sleep(2)
    assert _progress(lab) == progress, "the job ran on without a lease"
    for name in ("web", "scheduler", "control"):
        supervisor.startProcess(name)
    assert job.checksum() == right
    assert job.run()["epoch"] == epoch, "the job was restarted"


def _progress(lab: Lab) -> list[str]:
    return [p.read_text() for p in lab.directory.glob("nodes/*/state/pods/*/upper/work/progress.txt")]


def flip_byte(path: Path, seed: random.Random) -> None:
    """Change one bit in the middle part of a file."""
    size = path.stat().st_size
    at = seed.randrange(size // 4, size // 2)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << seed.randrange(8))]))


def packs(lab: Lab, node: str) -> list[Path]:
    """The packs of a node's store, the largest first."""
    found = [p for p in lab.node_state(node).glob("owners/*/store/packs/*") if p.is_file() and p.stat().st_size > 65536]
    return sorted(found, key=lambda p: -p.stat().st_size)


def test_a_flipped_byte_is_found_and_another_replica_is_used(lab: Lab, submit: Submit, cluster: Cluster, seed: random.Random) -> None:
    right, job = begun(submit)
    taken = job.take()
    node = node_of(job, 1)
    for pack in packs(lab, node)[:3]:
        flip_byte(pack, seed)
    epoch = job.run()["epoch"]
    cluster.rollback(job.id, taken["number"], placement=[node_of(job, k) for k in range(3)])
    job.wait_running(epoch, 120)
    assert job.checksum() == right


def test_a_full_disk_fails_the_generation_and_the_job_runs_on(lab: Lab, submit: Submit, cluster: Cluster) -> None:
    right, job = begun(submit)
    epoch, node, store = job.run()["epoch"], node_of(job, 1), f"/clusteros/owners/{owner_tag('admin')}/store"
    inside_node(lab, node, "mkdir", "-p", store)
    inside_node(lab, node, "mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", store)
    try:
        generation = job.settled(cluster.checkpoint(job.id)["number"])
    finally:
        wait_for("the disk free again", lambda: unmounted(lab, node, store), 30)
    assert generation["state"] == "failed"
    assert generation["code"] == "NO_SPACE", generation
    assert job.checksum() == right
    assert job.run()["epoch"] == epoch


def test_a_node_that_dies_in_a_snapshot_fails_the_generation_and_the_job_comes_back(
    lab: Lab, submit: Submit, cluster: Cluster, seed: random.Random
) -> None:
    right, job = begun(submit, 400)
    job.take()
    epoch, node = job.run()["epoch"], node_of(job, 2)
    number = cluster.checkpoint(job.id)["number"]
    time.sleep(seed.uniform(0, 0.5))
    supervise.control(lab.socket).stopProcess(node)
    try:
        generation = job.settled(number)
        job.wait_running(epoch, 90)
        assert generation["state"] in ("complete", "failed")
        assert generation["state"] == "complete" or generation["reason"]
        assert job.checksum() == right
    finally:
        supervise.control(lab.socket).startProcess(node)
    wait_for("the node up", lambda: cluster.node(node)["state"] == "up", 60)


def test_suspend_hold_and_drain_lose_nothing(lab: Lab, submit: Submit, cluster: Cluster) -> None:
    right, job = begun(submit, 700)  # it must still run when the node is drained, on a quick machine too
    cluster.suspend(job.id)
    wait_for("the job suspended", lambda: job.get()["state"] == "suspended", 30)
    wait_for("its pods suspended", lambda: set(pod_states(job)) <= {"suspended", "frozen"}, 30)
    before = _progress(lab)
    time.sleep(2)
    assert _progress(lab) == before, "a suspended job ran on"
    cluster.resume(job.id)
    job.wait_running()
    node, epoch = node_of(job, 0), job.run()["epoch"]
    cluster.drain(node)
    wait_for("the node drained", lambda: cluster.node(node)["state"] == "drained", 120)
    job.wait_running(epoch - 1)
    assert node not in {p["node"] for p in job.run()["pods"]}
    cluster.undrain(node)
    assert job.checksum() == right


def test_exec_answers_from_inside_a_pod(submit: Submit, cluster: Cluster) -> None:
    job = submit(1500)
    job.wait_running()
    answer: dict[str, Any] = cluster.exec(job.id, ["cat", "/proc/self/status"], pod=1)
    assert "Uid:\t0" not in answer["output"], "a job never runs as root"
    cluster.cancel(job.id)


def test_what_a_command_cannot_be_is_said_clearly(cluster: Cluster, ring: Path) -> None:
    job = cluster.submit({"command": ["./no-such-program"], "pods": 1})
    ended = wait_for("the end", lambda: (j := cluster.job(job["id"]))["state"] == "failed" and j, 60)
    assert "no-such-program" in ended["reason"]
