"""A copy on a real cluster: a parallel job grows from a generation while its source runs on, on the same nodes; and a process of
a generation comes out as a core, and a generation as a file that the engine alone opens."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from clusteros.client import Cluster
from clusteros.lab.layout import REPOSITORY, Lab
from native.engine import Engine
from tests.system.conftest import RingJob, log_text, wait_for
from tests.system.faults import environment_of

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


def unpacked(kept: Path, folder: Path) -> dict[int, str]:
    """The export opened by the engine alone: the digest of each pod's image, once all of it was verified."""
    with tarfile.open(kept) as tar:
        tar.extractall(folder, filter="data")
        top = folder / tar.getnames()[0].split("/")[0]
    engine, store, found = Engine(), folder / "store", {}
    for part in sorted(top.glob("pod-*/chunks-*")):
        engine.feed("store-import", "--store", store, pieces=[part.read_bytes()], timeout_s=60)
    for told in json.loads((top / "certificate.json").read_text())["pods"]:
        image, manifest = folder / f"image-{told['pod']}", (top / f"pod-{told['pod']}" / "manifest").read_bytes()
        engine.feed("image-import", "--dir", image, "--store", store, "--digest", told["digest"], pieces=[manifest], timeout_s=60)
        found[told["pod"]] = engine.call("verify", image, "--store", store, timeout_s=60)["digest"]
    assert (top / "end").exists()
    return found


def brought_in(lab: Lab, kept: Path) -> str:
    """The number of the job that is made of it."""
    state = lab.node_state(lab.node_names()[0])
    subprocess.run([sys.executable, "-m", "nodes.agent", "import", str(kept), "--state", str(state)], check=True, timeout=60)
    made = subprocess.run(
        [sys.executable, "manage.py", "import_generation", str(kept)], env=environment_of(lab, "clusteros.lab.web"), cwd=REPOSITORY,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[-1]


def are_gone(lab: Lab, digests: set[str]) -> bool:
    nodes = [lab.node_state(node) for node in lab.node_names()]
    return not any(list(node.glob(f"owners/*/images/{digest}")) for node in nodes for digest in digests)


def test_a_generation_leaves_the_cluster_and_comes_back_when_all_else_of_it_is_gone(
    lab: Lab, cluster: Cluster, submit: Submit, tmp_path: Path
) -> None:
    job = submit(ROUNDS)
    job.wait_running()
    number, kept = job.take()["number"], tmp_path / "kept.tar"
    with kept.open("wb") as file:
        file.writelines(cluster.export(job.id, number))
    images = unpacked(kept, tmp_path)
    assert sorted(images) == [0, 1, 2]
    right = job.checksum()
    for each in cluster.generations(job.id):
        if each["state"] == "complete":
            cluster.delete_generation(job.id, each["number"])
    wait_for("the images gone", lambda: are_gone(lab, set(images.values())), 60)
    time.sleep(5)  # until two heartbeats have told it
    made = brought_in(lab, kept)
    back = next(each for each in cluster.jobs() if each["number"] == int(made))
    cluster.release(back["id"])
    ended = wait_for("its end", lambda: (seen := cluster.job(back["id"]))["state"] in ("completed", "failed") and seen, 180)
    assert ended["state"] == "completed", list(cluster.job_events(back["id"]))[-20:]
    lines = wait_for("its last line", lambda: [line for line in log_text(cluster, back["id"]).splitlines() if "done" in line], 20)
    assert lines == [right]
