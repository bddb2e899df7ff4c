"""Everything is lost, in every phase of a generation, a rollback and a recovery: the job ends with the right result."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable

import pytest

from clusteros.client import Cluster, ClusterError
from clusteros.lab import lifecycle
from clusteros.lab.layout import Lab
from tests.system import faults
from tests.system.conftest import RingJob, log_text, wait_for

ROUNDS = 300
MORE_ROUNDS = 700  # where several generations and rollbacks must find it running
OPERATION_S = 2.5  # a generation or a rollback of the ring takes about this long
Submit = Callable[..., RingJob]


@pytest.fixture(scope="session")
def expected(lab: Lab, ring: object) -> dict[int, str]:
    """The last line of an undisturbed ring, by number of rounds; computed once for each."""
    return {}


def last_line(submit: Submit, expected: dict[int, str], rounds: int) -> str:
    """What an undisturbed run prints."""
    if rounds not in expected:
        expected[rounds] = submit(rounds).checksum()
    return expected[rounds]


def strike_later(lab: Lab, seed: random.Random, what: Callable[[Lab], object], within_s: float = OPERATION_S) -> threading.Thread:
    """Strike at a random instant of the next seconds."""
    delay = seed.uniform(0, within_s)
    print(f"strikes after {delay:.3f} s")

    def strike() -> None:
        time.sleep(delay)
        what(lab)

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


def kill_engines(lab: Lab) -> int:
    """kill -9 of the engines that are at work on a snapshot or a restore, as soon as there is one within an operation's time."""
    killed, deadline = 0, time.monotonic() + OPERATION_S
    while not killed and time.monotonic() < deadline:
        killed = faults.kill_pids([pid for pid, argv in faults.engine_pids(lab) if {"snapshot", "restore"} & set(argv[:4])])
    print(f"killed {killed} engines")
    return killed


def kill_keepers(lab: Lab) -> int:
    """kill -9 of every keeper."""
    killed = faults.kill_pids([pid for pid, argv in faults.engine_pids(lab) if "--keeper" in argv])
    print(f"killed {killed} keepers")
    return killed


VICTIMS: dict[str, Callable[[Lab], object]] = {**faults.FRONT, "engine": kill_engines, "keeper": kill_keepers}


def heard_again(cluster: Cluster) -> None:
    """Every node that is not lost answers: what was killed is back."""
    wait_for("every node up", lambda: all(n["state"] == "up" for n in cluster.nodes()), 60)


def test_a_ring_runs_to_its_end(submit: Submit, expected: dict[int, str]) -> None:
    assert last_line(submit, expected, 100).startswith("ring: done 100 ")


@pytest.mark.parametrize("victim", list(VICTIMS))
def test_a_generation_survives_or_fails_clearly_when_it_is_killed(
    lab: Lab, cluster: Cluster, submit: Submit, expected: dict[int, str], seed: random.Random, victim: str
) -> None:
    right = last_line(submit, expected, ROUNDS)
    job = submit(ROUNDS)
    job.wait_running()
    epoch = job.run()["epoch"]
    number = cluster.checkpoint(job.id)["number"]
    strike = strike_later(lab, seed, VICTIMS[victim])
    generation = job.settled(number)
    strike.join()
    assert generation["state"] == "complete" or generation["reason"], generation
    heard_again(cluster)
    assert job.checksum() == right
    assert job.run()["epoch"] == epoch, "the job was restarted"


@pytest.mark.parametrize("victim", list(VICTIMS))
def test_a_rollback_gets_there_whatever_is_killed_meanwhile(
    lab: Lab, cluster: Cluster, submit: Submit, expected: dict[int, str], seed: random.Random, victim: str
) -> None:
    right = last_line(submit, expected, ROUNDS)
    job = submit(ROUNDS)
    job.wait_running()
    first, epoch = job.take(), job.run()["epoch"]
    cluster.rollback(job.id, first["number"])
    strike = strike_later(lab, seed, VICTIMS[victim], 2 * OPERATION_S)
    wait_for("the rollback over", lambda: job.get()["state"] in ("running", "completed") and job.run()["epoch"] > epoch, 120)
    strike.join()
    heard_again(cluster)
    assert job.checksum() == right


@pytest.mark.parametrize("victim", list(VICTIMS))
def test_a_recovery_gets_there_whatever_is_killed_meanwhile(
    lab: Lab, cluster: Cluster, submit: Submit, expected: dict[int, str], seed: random.Random, victim: str
) -> None:
    right = last_line(submit, expected, ROUNDS)
    job = submit(ROUNDS)
    job.wait_running()
    job.take()
    epoch = job.run()["epoch"]
    assert faults.kill_one_podinit(lab) == 1
    strike_later(lab, seed, VICTIMS[victim], 2 * OPERATION_S).join()
    wait_for("the job back", lambda: job.get()["state"] in ("running", "completed") and job.run()["epoch"] > epoch, 120)
    heard_again(cluster)
    assert job.checksum() == right


def test_rolling_back_twice_makes_two_branches(submit: Submit, cluster: Cluster, expected: dict[int, str]) -> None:
    right = last_line(submit, expected, MORE_ROUNDS)
    job = submit(MORE_ROUNDS)
    job.wait_running()
    first = job.take()
    epoch = job.run()["epoch"]
    cluster.rollback(job.id, first["number"])
    job.wait_running(epoch)
    second = job.take()
    assert second["parent"] == first["number"]
    epoch = job.run()["epoch"]
    cluster.rollback(job.id, first["number"])
    job.wait_running(epoch)
    third = job.take()
    assert third["parent"] == first["number"]
    assert job.checksum() == right
    assert len(log_text(cluster, job.id).splitlines()) == 1, "output that was rolled back is shown"


def test_two_generations_at_once_are_refused(submit: Submit, cluster: Cluster) -> None:
    job = submit(2000)
    job.wait_running()
    first = job.take()
    number = cluster.checkpoint(job.id)["number"]
    with pytest.raises(ClusterError) as refused:
        cluster.checkpoint(job.id)
    assert refused.value.status == 409
    assert job.settled(number)["state"] == "complete"
    epoch = job.run()["epoch"]
    cluster.rollback(job.id, first["number"])
    job.wait_running(epoch)
    cluster.cancel(job.id)


def test_after_the_death_of_everything_every_complete_generation_can_be_rolled_back_to(
    lab: Lab, cluster: Cluster, submit: Submit, expected: dict[int, str]
) -> None:
    right = last_line(submit, expected, MORE_ROUNDS)
    job = submit(MORE_ROUNDS)
    job.wait_running()
    numbers = [job.take()["number"], job.take()["number"]]
    everybody = [lifecycle.pid_of(lab) or 0, *faults.lab_pids(lab)]
    assert faults.kill_pids(everybody[:1]) == 1
    wait_for("the end of everybody", lambda: not any(faults.pids_inside(pid) for pid in everybody), 20)
    lifecycle.up(lab, port=8190)
    for number in numbers:
        epoch = job.run()["epoch"]
        wait_for("the job back", lambda: job.get()["state"] == "running", 90)
        cluster.rollback(job.id, number)
        job.wait_running(epoch)
    assert job.checksum() == right


def test_a_lost_database_is_made_anew_from_what_the_nodes_keep(
    lab: Lab, cluster: Cluster, submit: Submit, expected: dict[int, str]
) -> None:
    right = last_line(submit, expected, MORE_ROUNDS)
    job = submit(MORE_ROUNDS, name="survivor")
    job.wait_running()
    numbers = [job.take()["number"], job.take()["number"]]
    lifecycle.down(lab)
    shutil.rmtree(lab.front / "postgres")
    with faults.killing_again_and_again(lab, "prepare", while_there=lab.record_lost_mark) as killed:
        lifecycle.up(lab, port=8190)
        wait_for("two deaths in the middle of it", lambda: len(killed) >= 2, 60)
    with Cluster(lifecycle.url_of(lab), lifecycle.read_login(lab)["admin"]["token"]) as anew:
        job.cluster = anew
        wait_for("the job held", lambda: job.get()["state"] == "held", 60)
        assert (job.get()["name"], job.get()["owner"]) == ("survivor", "admin")
        assert [g["number"] for g in job.generations()] == numbers
        wait_for("its images", lambda: anew.rollback(job.id, numbers[0], dry_run=True)["possible"], 30)
        anew.rollback(job.id, numbers[0])
        assert job.checksum() == right
        wait_for("the record whole", lambda: not lab.record_lost_mark.exists(), 120)
