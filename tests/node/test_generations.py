"""Snapshots and restores through the node service: barriers, idempotency, a service killed in every phase."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodes.agent import restoring
from nodes.agent.images import Images
from tests.node.bodies import spec_body
from tests.node.harness import TestNode, wait_for

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="the namespaces of a node need root"), pytest.mark.timeout(180)]
COUNTER = "import time\nn = 0\nwhile True:\n    print(n, flush=True)\n    n += 1\n    time.sleep(0.02)\n"


def name(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {key: body[key] for key in ("run", "epoch", "pod")} | more


def start_counter(node: TestNode, **changes: Any) -> dict[str, Any]:
    """A pod that counts on its standard output, and has a file in its working directory."""
    script = "#!/bin/sh\necho kept > kept.txt\nexec python3 -u count.py\n"
    body = spec_body(job=str(uuid.uuid4())) | {"script": script, "command": None, "files": [node.offer("count.py", COUNTER.encode())]}
    body |= changes
    node.control.send("start_pod", body)
    node.control.wait_report("pod", run=body["run"], state="running")
    wait_for("some counting", lambda: len(numbers(node, body)) > 5)
    return body


def numbers(node: TestNode, body: dict[str, Any]) -> list[int]:
    """What was counted so far, whole lines only."""
    text = node.control.text(body["run"], 0, "stdout").decode()
    return [int(line) for line in text.rpartition("\n")[0].split("\n") if line]


def stands(node: TestNode, body: dict[str, Any]) -> bool:
    """It counts fifty times a second."""
    counted = len(numbers(node, body))
    time.sleep(0.5)
    return len(numbers(node, body)) == counted


def decide(node: TestNode, prefix: str, member_set: str, verdict: str, size: int = 1) -> None:
    """The control worker's part of a barrier."""

    def all_in() -> bool:
        return int(node.client.scard(f"{prefix}{member_set}")) >= size

    wait_for(f"{member_set} of {prefix}", all_in, 60)
    node.client.set(f"{prefix}verdict", verdict, ex=300)


def others_prepare(node: TestNode, prefix: str, pods: int, member_set: str = "prepared") -> None:
    """The other pods of a job, of which there is no more than this."""
    for other in range(1, pods):
        node.client.sadd(f"{prefix}{member_set}", 100 + other)


def snapshot(node: TestNode, body: dict[str, Any], verdict: str = "go", **changes: Any) -> dict[str, Any]:
    """Take a snapshot and wait for its report."""
    generation = changes.pop("generation", str(uuid.uuid4()))
    request = name(body, generation=generation, pods=1, parent=None, then="run", deadline_s=30.0) | changes
    others_prepare(node, f"cut:{generation}:{body['epoch']}:", request["pods"])
    node.control.send("snapshot_pod", request)
    decide(node, f"cut:{generation}:{body['epoch']}:", "captured", verdict)
    return node.control.wait_report("snapshot", 60, generation=generation)


def restore(node: TestNode, old: dict[str, Any], taken: dict[str, Any], verdict: str = "go", **changes: Any) -> dict[str, Any]:
    body = {key: value for key, value in old.items() if key not in ("command", "files", "script")}
    body |= {"run": str(uuid.uuid4()), "epoch": old["epoch"] + 1, "image": taken["digest"], "sources": []}
    body |= {"generation": taken["generation"], "log_marks": taken["log_marks"]} | changes
    node.control.send("restore_pod", body)
    if verdict:
        decide(node, f"restore:{body['run']}:{body['epoch']}:", "ready", verdict)
    return body


def test_a_snapshot_is_taken_and_the_pod_runs_on(node: TestNode) -> None:
    body = start_counter(node)
    taken = snapshot(node, body)
    assert taken["ok"], taken
    assert taken["bytes"] > 0
    assert taken["pause_ms"] > 0
    counted = len(numbers(node, body))
    wait_for("more counting", lambda: len(numbers(node, body)) > counted + 20)
    assert numbers(node, body) == list(range(len(numbers(node, body))))
    held = wait_for("the image in the inventory", lambda: node.control.heartbeat()["images"])
    assert [image["digest"] for image in held] == [taken["digest"]]


def test_a_restored_pod_goes_on_from_the_mark_with_its_files(node: TestNode) -> None:
    body = start_counter(node)
    taken = snapshot(node, body)
    before = numbers(node, body)
    restored = restore(node, body, taken)
    node.control.wait_report("restored", 60, run=restored["run"], phase="running")
    wait_for("counting", lambda: len(numbers(node, restored)) > 20)
    mark = taken["log_marks"]["stdout"]
    assert node.control.log_bases[restored["run"], 0, "stdout"] == mark
    whole = node.control.text(body["run"], 0, "stdout")[:mark] + node.control.text(restored["run"], 0, "stdout")
    counted = [int(line) for line in whole.decode().rpartition("\n")[0].split("\n")]
    assert counted == list(range(len(counted)))
    assert len(counted) > len(before) // 2
    assert wait_for("the old pod gone", lambda: [p["run"] for p in node.control.heartbeat()["pods"]] == [restored["run"]])
    root = node.native("exec", "--pod", str(node.pod_dir(restored)), "--", "cat", "/home/someone/job-1/kept.txt", "/etc/clusteros/job.json")
    assert root.stdout.startswith(b"kept\n")
    assert restored["run"].encode() in root.stdout


def test_a_second_snapshot_of_a_restored_pod_counts_its_log_on(node: TestNode) -> None:
    body = start_counter(node)
    restored = restore(node, body, first := snapshot(node, body))
    node.control.wait_report("restored", 60, run=restored["run"], phase="running")
    wait_for("counting", lambda: len(numbers(node, restored)) > 20)
    second = snapshot(node, restored, parent=first["digest"])
    assert second["ok"], second
    assert second["log_marks"]["stdout"] > first["log_marks"]["stdout"]
    assert second["bytes_new"] < first["bytes_new"]


def test_an_abort_lets_the_pod_run_on_and_says_why(node: TestNode) -> None:
    body = start_counter(node)
    taken = snapshot(node, body, verdict="abort", pods=2)
    assert (taken["ok"], taken["code"]) == (False, "ABORTED")
    counted = len(numbers(node, body))
    wait_for("more counting", lambda: len(numbers(node, body)) > counted + 20)
    assert snapshot(node, body)["ok"]


def test_a_pod_runs_on_when_all_are_captured_and_not_before(node: TestNode) -> None:
    body, generation = start_counter(node), str(uuid.uuid4())
    prefix = f"cut:{generation}:1:"
    others_prepare(node, prefix, 3)
    node.control.send("snapshot_pod", name(body, generation=generation, pods=3, parent=None, then="run", deadline_s=30.0))
    wait_for("captured", lambda: node.client.scard(prefix + "captured"), 60)
    others_prepare(node, prefix, 2, "captured")
    wait_for("it stands, and all that it said is here", lambda: stands(node, body), 10)
    others_prepare(node, prefix, 3, "captured")
    taken = node.control.wait_report("snapshot", 60, generation=generation)
    assert taken["ok"], "nobody had to decide for that"
    assert taken["pause_ms"] > 300


def test_a_pod_that_is_to_end_waits_for_the_decision(node: TestNode) -> None:
    body = start_counter(node)
    taken = snapshot(node, body, verdict="abort", then="kill")
    assert (taken["ok"], taken["code"]) == (False, "ABORTED")
    counted = len(numbers(node, body))
    wait_for("more counting", lambda: len(numbers(node, body)) > counted + 20)


def test_no_word_until_the_deadline_is_an_abort(node: TestNode) -> None:
    body, generation = start_counter(node), str(uuid.uuid4())
    request = name(body, generation=generation, pods=2, parent=None, then="run", deadline_s=2.0)
    node.control.send("snapshot_pod", request)
    taken = node.control.wait_report("snapshot", 30, generation=generation)
    assert (taken["ok"], taken["code"]) == (False, "ABORTED")


def test_a_doubled_request_is_answered_with_the_same_outcome(node: TestNode) -> None:
    body, generation = start_counter(node), str(uuid.uuid4())
    first = snapshot(node, body, generation=generation)
    node.control.send("snapshot_pod", name(body, generation=generation, pods=1, parent=None, then="run", deadline_s=30.0))
    wait_for("a second report", lambda: len(node.control.reports("snapshot", generation=generation)) == 2)
    assert node.control.reports("snapshot", generation=generation) == [first, first]


def test_a_snapshot_that_ends_the_pod_reports_it_ended(node: TestNode) -> None:
    body = start_counter(node)
    assert snapshot(node, body, then="kill")["ok"]
    assert node.control.wait_report("pod", run=body["run"], state="ended")["exit_status"] is None


def test_a_snapshot_of_a_pod_that_is_not_here_is_refused(node: TestNode) -> None:
    body, generation = spec_body(), str(uuid.uuid4())
    node.control.send("snapshot_pod", name(body, generation=generation, pods=1, parent=None, then="run", deadline_s=5.0))
    assert node.control.wait_report("snapshot", generation=generation)["code"] == "CONFLICT"


@pytest.mark.parametrize(("policy", "told"), [("refuse", True), ("keep", False), ("restore", True), (None, False)])
def test_the_policy_for_files_that_no_image_carries_reaches_the_engine(policy: str | None, told: bool) -> None:
    record: Any = SimpleNamespace(
        request={"image": "0" * 64, "files_policy": policy}, spec=SimpleNamespace(uid=1, gid=1), pod_dir=Path("pod"), folder=Path("folder"),
        log_path=Path,
    )
    agent: Any = SimpleNamespace(images=Images(Path("nowhere")), config=SimpleNamespace(lazy_restore_bytes=1))
    arguments = restoring.arguments(agent, record, "hub=h")
    assert (arguments[-2:] == ["--files", policy]) is told
    assert ("--files" in arguments) is told


@pytest.mark.parametrize(("limit", "worth"), [(0, False), (1 << 20, True), (1 << 20 | 1, False)])
def test_a_large_job_runs_before_its_memory_is_there(limit: int, worth: bool) -> None:
    agent: Any = SimpleNamespace(images=SimpleNamespace(bytes_of=lambda _: 1 << 20), config=SimpleNamespace(lazy_restore_bytes=limit))
    assert restoring.is_worth_lazy(agent, "0" * 64) is (worth and os.geteuid() == 0)


def test_an_aborted_restore_leaves_nothing(node: TestNode) -> None:
    body = start_counter(node)
    taken = snapshot(node, body)
    restored = restore(node, body, taken, verdict="abort")
    failed = node.control.wait_report("restored", 60, run=restored["run"], phase="failed")
    assert failed["code"] == "ABORTED"
    assert not node.pod_dir(restored).exists()
    again = restore(node, body, taken, epoch=restored["epoch"] + 1)
    node.control.wait_report("restored", 60, run=again["run"], phase="running")


def test_an_image_that_is_nowhere_is_a_clear_failure(node: TestNode) -> None:
    taken = {"digest": "0" * 64, "generation": str(uuid.uuid4()), "log_marks": {}}
    restored = restore(node, spec_body(job=str(uuid.uuid4())), taken, verdict="")
    assert node.control.wait_report("restored", 30, run=restored["run"], phase="failed")["code"] == "NO_INPUT"


@pytest.mark.parametrize("phase", ["prepared", "captured", "go"])
def test_a_service_killed_in_a_snapshot_harms_nobody(node: TestNode, phase: str) -> None:
    body, generation = start_counter(node), str(uuid.uuid4())
    prefix = f"cut:{generation}:1:"
    others_prepare(node, prefix, 1 if phase == "prepared" else 2)
    node.control.send("snapshot_pod", name(body, generation=generation, pods=2, parent=None, then="run", deadline_s=20.0))
    member_set = "prepared" if phase == "prepared" else "captured"
    wait_for(phase, lambda: node.client.scard(prefix + member_set), 60)
    if phase == "go":
        others_prepare(node, prefix, 2, "captured")
        time.sleep(0.01)
    node.kill_service()
    time.sleep(0.5)
    node.start_service()
    taken = node.control.wait_report("snapshot", 60, generation=generation)
    if phase != "go":
        assert (taken["ok"], taken["code"]) == (False, "ABORTED")
    counted = len(numbers(node, body))
    wait_for("more counting", lambda: len(numbers(node, body)) > counted + 20)
    assert numbers(node, body) == list(range(len(numbers(node, body))))
    last = snapshot(node, body)
    assert last["ok"], last
    images = {image["digest"] for image in wait_for("images", lambda: node.control.heartbeat()["images"])}
    assert images == {t["digest"] for t in (taken, last) if t["ok"]}


def test_a_service_killed_before_the_release_of_a_restore_reports_it_failed(node: TestNode) -> None:
    body = start_counter(node)
    restored = restore(node, body, snapshot(node, body), verdict="")
    wait_for("ready", lambda: node.client.scard(f"restore:{restored['run']}:2:ready"), 60)
    node.kill_service()
    time.sleep(0.5)
    node.start_service()
    assert node.control.wait_report("restored", 60, run=restored["run"], phase="failed")["code"] == "ABORTED"


def test_emptied_redis_in_a_barrier_is_filled_again(node: TestNode) -> None:
    body, generation = start_counter(node), str(uuid.uuid4())
    prefix = f"cut:{generation}:1:"
    others_prepare(node, prefix, 2)
    node.control.send("snapshot_pod", name(body, generation=generation, pods=2, parent=None, then="run", deadline_s=30.0))
    wait_for("captured", lambda: node.client.scard(prefix + "captured"), 60)
    node.client.flushall()
    wait_for("captured again", lambda: node.client.scard(prefix + "captured"), 10)
    others_prepare(node, prefix, 2, "captured")
    assert node.control.wait_report("snapshot", 60, generation=generation)["ok"]


def keep_certificate(node: TestNode, *digests: str) -> str:
    generation = str(uuid.uuid4())
    node.control.send("keep_certificate", {"generation": generation, "digests": list(digests), "certificate": {"pods": []}})
    assert node.control.wait_report("certificate", 20, generation=generation)
    return generation


def certificates_of(node: TestNode) -> set[str]:
    return {path.stem for path in (node.config.state / "certificates").glob("*.json")}


def test_removed_images_leave_the_inventory_and_take_their_certificates_along(node: TestNode) -> None:
    body = start_counter(node)
    taken, other = snapshot(node, body), snapshot(node, body)
    going, staying = keep_certificate(node, taken["digest"]), keep_certificate(node, other["digest"])
    assert certificates_of(node) == {going, staying}
    node.control.send("remove_images", {"digests": [taken["digest"], "0" * 64]})
    wait_for("an inventory without it", lambda: [i["digest"] for i in node.control.heartbeat()["images"]] == [other["digest"]])
    assert certificates_of(node) == {staying}
    keep_certificate(node, taken["digest"])
    assert certificates_of(node) == {staying}, "what comes after its images went is not kept"
    assert snapshot(node, body)["ok"]


def test_a_lease_that_runs_out_during_a_barrier_is_not_lost(node: TestNode) -> None:
    """Leases go on being renewed while a snapshot waits."""
    body, generation = start_counter(node), str(uuid.uuid4())
    node.control.send("snapshot_pod", name(body, generation=generation, pods=2, parent=None, then="run", deadline_s=12.0))
    timer = threading.Event()
    timer.wait(10.0)
    counted = len(numbers(node, body))
    wait_for("counting while it waits", lambda: len(numbers(node, body)) > counted + 20, 10)
