"""A copy on a real cluster: a parallel job grows from a generation while its source runs on, on the same nodes; and a process of
a generation comes out as a core."""

from __future__ import annotations

from collections.abc import Callable

from clusteros.client import Cluster
from tests.system.conftest import RingJob, log_text, wait_for

Submit = Callable[..., RingJob]
ROUNDS = 200


def test_a_copy_and_its_source_both_come_to_the_right_end(cluster: Cluster, submit: Submit) -> None:
    job = submit(ROUNDS)
    job.wait_running()
    taken = job.take()
    copy = str(cluster.copy(job.id, {"generation": taken["number"], "name": "what-if"})["id"])
    epoch = job.run()["epoch"]
    wait_for("the copy running", lambda: cluster.job(copy)["state"] in ("running", "completed"), 120, job.story)
    right = job.checksum()
    assert job.run()["epoch"] == epoch, "the source was not touched"
    ended = wait_for("the end of the copy", lambda: (seen := cluster.job(copy))["state"] in ("completed", "failed") and seen, 180)
    assert ended["state"] == "completed", list(cluster.job_events(copy))[-20:]
    lines = wait_for("its last line", lambda: [line for line in log_text(cluster, copy).splitlines() if "done" in line], 20)
    assert lines == [right]


def test_a_process_of_a_generation_comes_out_as_a_core(cluster: Cluster, submit: Submit) -> None:
    job = submit(ROUNDS)
    job.wait_running()
    number = job.take()["number"]
    pods = cluster.processes(job.id, number)
    assert [(pod["pod"], pod["words"]) for pod in pods] == [(0, ""), (1, ""), (2, "")]
    ring = next(each for each in pods[1]["processes"] if each["name"] == "ring")
    core = b"".join(cluster.core(job.id, number, 1, ring["pid"]))
    assert core[:4] == b"\x7fELF"
    assert len(core) > 100_000
