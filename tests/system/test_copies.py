"""A copy on a real cluster: a parallel job grows from a generation while its source runs on, on the same nodes; and a process of
a generation comes out as a core, and a generation as a file that the engine alone opens."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from clusteros.client import Cluster
from native.engine import Engine
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


def test_a_generation_leaves_the_cluster_and_the_engine_alone_opens_it(cluster: Cluster, submit: Submit, tmp_path: Path) -> None:
    job = submit(ROUNDS)
    job.wait_running()
    number = job.take()["number"]
    name, kept = f"job{cluster.job(job.id)['number']}-g{number}", tmp_path / "kept.tar"
    with kept.open("wb") as file:
        file.writelines(cluster.export(job.id, number))
    with tarfile.open(kept) as tar:
        tar.extractall(tmp_path, filter="data")
    engine, store, folder = Engine(), tmp_path / "store", tmp_path / name
    for part in sorted(folder.glob("pod-*/chunks-*")):
        engine.feed("store-import", "--store", store, pieces=[part.read_bytes()], timeout_s=60)
    for told in json.loads((folder / "certificate.json").read_text())["pods"]:
        image, manifest = tmp_path / f"image-{told['pod']}", (folder / f"pod-{told['pod']}" / "manifest").read_bytes()
        arguments = ("--dir", image, "--store", store, "--digest", told["digest"])
        engine.feed("image-import", *arguments, pieces=[manifest], timeout_s=60)
        assert engine.call("verify", image, "--store", store, timeout_s=60)["digest"] == told["digest"]
    assert (folder / "end").exists()
    assert kept.stat().st_size < 2 * sum(each.stat().st_size for each in store.rglob("*") if each.is_file())
