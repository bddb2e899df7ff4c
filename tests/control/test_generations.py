"""Taking generations: the cut, its reports, and everything that can go wrong in between."""

from __future__ import annotations

import pytest
from django.utils import timezone

from checkpoints.models import Generation, Replica
from checkpoints.services import decide_cut, take_generation
from clusteros.core.problems import Problem
from jobs.models import Job, Pod
from nodes.models import Command, NodeReport
from tests.control.cluster import Nodes, digest_of

pytestmark = pytest.mark.django_db


def test_a_generation_is_complete_when_all_pods_and_a_second_replica_of_each_are_there(nodes: Nodes) -> None:
    job = nodes.run_job()
    generation = take_generation(job)
    assert generation.state == "taking"
    assert len(nodes.asked("snapshot_pod")) == 3
    nodes.capture(generation, settle=False)
    generation.refresh_from_db()
    assert generation.state == "storing", "one replica each is not enough with three nodes"
    nodes.tick()
    nodes.obey()
    generation.refresh_from_db()
    assert generation.state == "complete"
    assert generation.bytes == 15000
    assert generation.pause_ms == 12.5
    assert generation.certificate["job"]["number"] == job.number
    for pod in range(3):
        assert Replica.objects.filter(digest=digest_of(generation, pod), complete=True).count() == 2


def test_a_second_generation_at_once_is_refused_by_name(nodes: Nodes) -> None:
    job = nodes.run_job()
    take_generation(job)
    with pytest.raises(Problem, match=r"generation 1 of job .* is being taken") as refused:
        take_generation(job)
    assert refused.value.code.name == "CONFLICT"


def test_go_cannot_be_decided_after_abort_nor_the_other_way(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = take_generation(job)
    assert decide_cut(first, "abort", "given up") == "abort"
    assert decide_cut(first, "go") == "abort"
    second = take_generation(job)
    assert decide_cut(second, "go") == "go"
    assert decide_cut(second, "abort") == "go"


def test_a_stored_pod_that_ran_on_shows_that_all_were_captured(nodes: Nodes) -> None:
    generation = take_generation(nodes.run_job())
    first = generation.snapshots.select_related("node").first()
    nodes.store(generation, first.pod, first.node.name)
    generation.refresh_from_db()
    assert (generation.state, generation.decision) == ("storing", "go")
    nodes.capture(generation)


def test_a_stored_pod_that_is_to_stay_stopped_decides_nothing(nodes: Nodes) -> None:
    generation = take_generation(nodes.run_job(), then="stop", cause="hold")
    first = generation.snapshots.select_related("node").first()
    nodes.store(generation, first.pod, first.node.name)
    generation.refresh_from_db()
    assert (generation.state, generation.decision) == ("taking", None)


def test_a_failed_snapshot_fails_the_generation_and_the_job_runs_on(nodes: Nodes) -> None:
    job = nodes.run_job()
    generation = take_generation(job)
    nodes.go(generation)
    body = {"generation": str(generation.pk), "epoch": 1, "pod": 1, "ok": False, "code": "NO_SPACE", "message": "disk full"}
    name = generation.snapshots.get(pod=1).node.name
    nodes.report(name, "snapshot", body)
    generation.refresh_from_db()
    job.refresh_from_db()
    assert (generation.state, generation.code, job.state) == ("failed", "NO_SPACE", "running")
    assert "disk full" in generation.reason
    assert name in generation.reason


def test_the_cut_is_given_up_at_its_deadline(nodes: Nodes) -> None:
    generation = take_generation(nodes.run_job())
    Generation.objects.filter(pk=generation.pk).update(deadline=timezone.now() - timezone.timedelta(seconds=1))
    nodes.tick()
    generation.refresh_from_db()
    assert (generation.state, generation.decision) == ("failed", "abort")


def test_no_go_after_the_deadline(nodes: Nodes) -> None:
    generation = take_generation(nodes.run_job())
    Generation.objects.filter(pk=generation.pk).update(deadline=timezone.now() - timezone.timedelta(seconds=1))
    assert nodes.go(generation) == "abort"


def test_a_report_that_comes_twice_counts_once(nodes: Nodes) -> None:
    from nodes.tasks import record

    generation = take_generation(nodes.run_job())
    nodes.go(generation)
    name = generation.snapshots.get(pod=0).node.name
    envelope = nodes.store(generation, 0, name)
    events = generation.job.pk and Generation.objects.get(pk=generation.pk).snapshots.filter(state="stored").count()
    record(envelope)
    assert events == 1
    assert NodeReport.objects.filter(pk=envelope["id"]).count() == 1


def test_a_late_snapshot_of_a_failed_generation_changes_nothing(nodes: Nodes) -> None:
    job = nodes.run_job()
    generation = take_generation(job)
    decide_cut(generation, "abort", "given up")
    for snapshot in generation.snapshots.select_related("node"):
        nodes.store(generation, snapshot.pod, snapshot.node.name)
    generation.refresh_from_db()
    assert generation.state == "failed"
    nodes.tick()
    assert nodes.asked("remove_images") or Command.objects.filter(kind="remove_images").exists()


def test_a_snapshot_report_from_another_node_is_refused_and_acknowledged(nodes: Nodes) -> None:
    generation = take_generation(nodes.run_job())
    nodes.go(generation)
    own = generation.snapshots.get(pod=0).node.name
    other = next(name for name in nodes.pods if name != own)
    envelope = nodes.store(generation, 0, other)
    assert generation.snapshots.get(pod=0).state == "asked"
    assert NodeReport.objects.get(pk=envelope["id"]).refused
    answer = nodes.heartbeat(other)
    assert answer is not None
    assert envelope["id"] in answer["acked"]


def test_a_job_that_holds_what_cannot_be_captured_is_refused_by_name(nodes: Nodes) -> None:
    job = nodes.run_job()
    pod = Pod.objects.filter(run__job=job).select_related("run", "node")[0]
    body = {
        "run": str(pod.run_id), "epoch": 1, "pod": pod.index, "state": "running", "checkpointable": False,
        "obstacles": [{"pid": 7, "fd": 4, "words": "process 7 (solver) has an io_uring at descriptor 4"}],
    }  # fmt: skip
    nodes.report(pod.node.name, "pod", body)
    job.refresh_from_db()
    assert job.checkpointable is False
    with pytest.raises(Problem, match="io_uring at descriptor 4"):
        take_generation(job)


def test_reasons_follow_the_running_job(nodes: Nodes) -> None:
    job = nodes.run_job()
    pod = Pod.objects.filter(run__job=job).select_related("run", "node")[0]
    key = str(pod.run_id), pod.index  # type: ignore[attr-defined]
    for words in ("an io_uring", "a userfaultfd"):
        nodes.pods[pod.node.name][key] |= {"checkpointable": False, "obstacles": [{"pid": 7, "fd": 4, "address": 0, "words": words}]}
        nodes.heartbeat(pod.node.name)
        job.refresh_from_db()
        assert (job.checkpointable, [item["words"] for item in job.obstacles]) == (False, [words])
    nodes.pods[pod.node.name][key] |= {"checkpointable": True, "obstacles": []}
    nodes.heartbeat(pod.node.name)
    job.refresh_from_db()
    assert (job.checkpointable, job.obstacles) == (True, [])
    Job.objects.update(checkpointable=False, obstacles=[{"words": "what an older report said"}])  # two were taken at the same moment
    nodes.beat()
    job.refresh_from_db()
    assert (job.checkpointable, job.obstacles) == (True, []), "a heartbeat puts right what two reports at once left behind"


def reason_without_node(nodes: Nodes, generation: Generation) -> str:
    """Why it fails when the node of pod 2 is lost."""
    from nodes.services import get_node, lose_node

    lose_node(get_node(generation.snapshots.get(pod=2).node.name), "test")
    nodes.tick()
    generation.refresh_from_db()
    assert generation.state == "failed"
    return str(generation.reason)


def test_a_node_lost_while_storing_fails_the_generation(nodes: Nodes) -> None:
    generation = take_generation(nodes.run_job())
    nodes.go(generation)
    assert "lost" in reason_without_node(nodes, generation)


def test_a_node_lost_with_the_only_copy_of_a_part_fails_the_generation(nodes: Nodes) -> None:
    generation = take_generation(nodes.run_job())
    nodes.capture(generation, settle=False)
    assert "before pod 2 was stored elsewhere" in reason_without_node(nodes, generation)


def test_the_next_generation_names_its_parent_and_its_base_images(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    second = take_generation(job)
    assert second.parent_id == first.pk
    bodies = {row.body["pod"]: row.body for row in nodes.asked("snapshot_pod")}
    assert {pod: body["parent"] for pod, body in bodies.items()} == {pod: digest_of(first, pod) for pod in range(3)}


def test_generations_are_taken_by_interval(nodes: Nodes) -> None:
    job = nodes.run_job(interval_s=5)
    nodes.tick()
    Job.objects.filter(pk=job.pk).update(next_generation_at=timezone.now() - timezone.timedelta(seconds=1))
    nodes.tick()
    nodes.tick()
    assert [g.cause for g in Generation.objects.filter(job=job)] == ["interval"]


def test_retention_keeps_the_last_and_the_pinned(nodes: Nodes) -> None:
    from checkpoints.services import pin_generation

    job = nodes.run_job(keep=2)
    made = [nodes.generation(job) for _ in range(2)]
    pin_generation(made[0], True)
    made += [nodes.generation(job) for _ in range(3)]
    nodes.tick()
    nodes.tick()
    kept = list(Generation.objects.filter(job=job, state="complete").values_list("number", flat=True))
    assert kept == [1, 4, 5]
    removed = Command.objects.filter(kind="remove_images").values_list("body", flat=True)
    assert {digest_of(made[1], pod) for pod in range(3)} <= {d for body in removed for d in body["digests"]}
