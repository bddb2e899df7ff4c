"""Bringing jobs back: rollback, recovery, migration, hold and release; and what happens when that fails half way."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from checkpoints.models import Generation, Resume
from checkpoints.services import hold_job, plan_resume, resume_run, take_generation
from checkpoints.services.resuming import decide_restore, files_policy
from clusteros.core.problems import Problem
from jobs.models import Job, Pod, Run
from jobs.services import cancel_job, release_job
from jobs.services.ending import pods_gone
from nodes.models import Command, Node
from nodes.services import drain_node, get_node, lose_node
from tests.control.cluster import GIB, Nodes, log_body

pytestmark = pytest.mark.django_db


def pods_of(job: Job) -> list[Pod]:
    return list(Pod.objects.filter(run__job=job, run__epoch=job.epoch).select_related("node", "run"))


def leases_ran_out(job: Job) -> None:
    Pod.objects.filter(run__job=job).update(lease_until=timezone.now() - timedelta(seconds=60))


def destroy(nodes: Nodes, name: str) -> None:
    nodes.pods[name].clear()
    lose_node(get_node(name), "test")


def test_a_rollback_keeps_the_present_first_ends_the_old_pods_and_grows_a_branch(nodes: Nodes) -> None:
    job = nodes.run_job()
    first, second = nodes.generation(job), nodes.generation(job)
    resume = resume_run(job, first, cause="rollback")
    nodes.finish(resume)
    job.refresh_from_db()
    assert (resume.state, job.state, job.epoch) == ("done", "running", 2)
    safety = Generation.objects.get(job=job, cause="safety")
    assert safety.state == "complete"
    assert safety.parent_id == second.pk
    run = job.current_run
    assert (run.from_generation, run.parent.epoch) == (1, 1)
    assert {p.state for p in Pod.objects.filter(run__epoch=1)} == {"ended"}
    assert nodes.generation(job).parent_id == first.pk, "a new branch grows from the generation"


def test_nothing_is_ended_before_the_images_are_verified_and_the_safety_generation_is_complete(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    resume = resume_run(job, first, cause="rollback")
    nodes.tick()
    assert not nodes.asked("end_pod")
    nodes.obey()
    nodes.tick()
    resume.refresh_from_db()
    assert resume.state == "safety"
    assert not nodes.asked("end_pod")
    nodes.capture(resume.safety or Generation.objects.get(cause="safety"))
    nodes.tick()
    assert len(nodes.asked("end_pod")) == 3


def test_a_damaged_image_that_no_replica_can_replace_ends_the_rollback_before_anything_is_ended(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    resume = resume_run(job, first, cause="rollback")
    nodes.tick()
    row = nodes.asked("prefetch")[0]
    failed = [{"digest": row.body["images"][0], "code": "BAD_IMAGE", "message": "chunk 3 is not what its name says"}]
    nodes.report(row.node.name, "images", {"digests": [], "failed": failed})
    nodes.tick()
    resume.refresh_from_db()
    job.refresh_from_db()
    assert (resume.state, job.state, job.epoch) == ("failed", "running", 1)
    assert "chunk 3" in resume.reason
    assert not nodes.asked("end_pod")


def test_a_rollback_waits_for_the_generation_that_is_being_taken(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    going = take_generation(job)
    resume = resume_run(job, first, cause="rollback")
    nodes.tick()
    nodes.obey()
    nodes.tick()
    resume.refresh_from_db()
    assert resume.state == "safety"
    assert not nodes.asked("end_pod")
    nodes.capture(going)
    nodes.finish(resume)
    job.refresh_from_db()
    assert (resume.state, job.state) == ("done", "running")


def test_two_rollbacks_at_once_are_refused_by_name(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    resume_run(job, first, cause="rollback")
    with pytest.raises(Problem, match="on its way to generation 1 already"):
        resume_run(job, first, cause="rollback")


@pytest.mark.parametrize("state", ["failed", "deleted", "taking"])
def test_only_a_complete_generation_can_be_gone_back_to(nodes: Nodes, state: str) -> None:
    job = nodes.run_job()
    generation = nodes.generation(job)
    Generation.objects.filter(pk=generation.pk).update(state=state, reason="disk full")
    generation.refresh_from_db()
    with pytest.raises(Problem, match=f"is {state}, not complete"):
        resume_run(job, generation, cause="rollback")


def test_after_the_loss_of_a_node_two_pods_share_one_and_addresses_stay(nodes: Nodes) -> None:
    job = nodes.run_job(ranks_per_pod=2)
    nodes.generation(job)
    before = {p.index: p.node.name for p in pods_of(job)}
    assert len(set(before.values())) == 3
    destroy(nodes, before[1])
    nodes.tick()
    resume = Resume.objects.get(job=job)
    nodes.obey()
    nodes.tick()
    resume.refresh_from_db()
    assert resume.state == "ending"
    assert not nodes.asked("restore_pod"), "the lost pod's lease has not run out"
    leases_ran_out(job)
    nodes.finish(resume)
    job.refresh_from_db()
    after = {p.index: p.node.name for p in pods_of(job)}
    assert (job.state, job.epoch, resume.cause) == ("running", 2, "recovery")
    assert before[1] not in after.values()
    assert len(set(after.values())) == 2


def test_no_pod_starts_elsewhere_before_every_old_lease_has_surely_run_out(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.generation(job)
    victim = pods_of(job)[2].node.name
    destroy(nodes, victim)
    until = timezone.now() + timedelta(seconds=60)
    Pod.objects.filter(run__job=job, node__name=victim).update(lease_until=until)
    for _ in range(4):
        nodes.tick()
        nodes.obey()
    assert Resume.objects.get(job=job).state == "ending"
    assert not nodes.asked("restore_pod")
    run = Run.objects.get(job=job)
    assert not pods_gone(run, until + timedelta(seconds=0.9), 1.0)[0], "the margin counts too"
    assert pods_gone(run, until + timedelta(seconds=1.1), 1.0)[0]
    leases_ran_out(job)
    nodes.tick()
    assert nodes.asked("restore_pod")


def test_without_room_elsewhere_the_job_is_left_as_it_is_and_runs_on_when_its_node_returns(nodes: Nodes) -> None:
    job = nodes.run_job(mem_bytes=5 * GIB)
    nodes.generation(job)
    victim = pods_of(job)[0].node.name
    lose_node(get_node(victim), "a cable was pulled")
    nodes.tick()
    job.refresh_from_db()
    assert job.state == "running"
    assert "no room elsewhere now" in job.waiting_because
    assert not nodes.asked("end_pod")
    answer = nodes.heartbeat(victim)
    assert answer is not None
    assert [p["pod"] for p in answer["pods"]] == [0], "the same epoch gets its lease again"
    nodes.tick()
    job.refresh_from_db()
    assert (job.state, job.epoch) == ("running", 1)
    assert {p.state for p in pods_of(job)} == {"running"}


def test_a_node_that_returns_before_anything_was_ended_calls_the_recovery_off(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.generation(job)
    victim = pods_of(job)[0].node.name
    lose_node(get_node(victim), "a cable was pulled")
    nodes.tick()
    resume = Resume.objects.get(job=job)
    assert resume.state == "fetching"
    nodes.heartbeat(victim)
    nodes.tick()
    resume.refresh_from_db()
    job.refresh_from_db()
    assert (resume.state, job.state, job.epoch) == ("failed", "running", 1)
    assert "back" in resume.reason


def test_what_thaws_late_finds_the_newer_epoch_and_is_told_to_end(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.generation(job)
    victim = pods_of(job)[1].node.name
    kept = dict(nodes.pods[victim])
    destroy(nodes, victim)
    leases_ran_out(job)
    nodes.tick()
    nodes.finish(Resume.objects.get(job=job))
    nodes.pods[victim] = kept
    answer = nodes.heartbeat(victim)
    assert answer is not None
    assert [(e["epoch"], e["pod"]) for e in answer["ended"]] == [(1, 1)]
    assert not answer["pods"]


def test_a_job_without_any_generation_begins_anew(nodes: Nodes) -> None:
    job = nodes.run_job()
    destroy(nodes, pods_of(job)[1].node.name)
    nodes.tick()
    job.refresh_from_db()
    assert job.state == "queued"
    assert "begins anew" in job.waiting_because or "lease" in job.waiting_because
    nodes.obey()
    nodes.beat()
    leases_ran_out(job)
    nodes.tick()
    job.refresh_from_db()
    assert job.state in ("queued", "starting")
    if job.state == "queued":
        assert "do not fit" in job.waiting_because or "needs" in job.waiting_because or "waits" in job.waiting_because


@pytest.mark.parametrize(
    ("asked", "copied", "told"), [("restore", False, "restore"), ("restore", True, "keep"), ("refuse", True, "refuse")]
)
def test_a_copy_takes_nothing_back_on_storage_that_it_shares_with_its_model(asked: str, copied: bool, told: str) -> None:
    assert files_policy(Job(files_policy=asked, copied_from=Job(pk=7) if copied else None)) == told


def test_a_restore_that_fails_half_way_falls_back_to_the_safety_generation_with_a_new_epoch(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    resume = resume_run(job, first, cause="rollback")
    for _ in range(6):
        nodes.tick()
        resume.refresh_from_db()
        if resume.safety is not None and resume.safety.state == "taking":
            nodes.capture(resume.safety)
        nodes.obey()
        if resume.state == "restoring":
            break
    row = nodes.asked("restore_pod")[0]
    assert row.body["files_policy"] == resume.job.files_policy
    body = {key: row.body[key] for key in ("run", "epoch", "pod")}
    nodes.report(row.node.name, "restored", {**body, "phase": "failed", "code": "UNSUPPORTED", "message": "no AVX-512"})
    assert decide_restore(resume.pk, "go") == "abort"
    nodes.tick()
    second = Resume.objects.filter(job=job).order_by("-asked_at")[0]
    assert second.pk != resume.pk
    assert second.generation is not None
    assert second.generation.cause == "safety"
    nodes.finish(second)
    job.refresh_from_db()
    assert (job.state, job.epoch, second.state) == ("running", 3, "done")


def test_when_no_generation_can_be_brought_back_the_job_is_held_not_lost(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.generation(job)
    destroy(nodes, pods_of(job)[1].node.name)
    leases_ran_out(job)
    for _ in range(40):
        nodes.tick()
        nodes.obey()
        for row in nodes.asked("restore_pod")[:1]:
            body = {key: row.body[key] for key in ("run", "epoch", "pod")}
            nodes.report(row.node.name, "restored", {**body, "phase": "failed", "code": "OS", "message": "no"})
        leases_ran_out(job)
        job.refresh_from_db()
        if job.state == "held":
            break
    assert job.state == "held"
    assert "no generation could be brought back" in job.waiting_because
    assert Generation.objects.get(job=job).state == "complete"


def test_hold_swaps_a_running_job_out_and_release_brings_it_back(nodes: Nodes) -> None:
    job = nodes.run_job()
    hold_job(job)
    generation = Generation.objects.get(job=job)
    assert (generation.cause, generation.then) == ("hold", "stop")
    nodes.capture(generation)
    nodes.tick()
    job.refresh_from_db()
    assert (job.state, job.resume_from) == ("held", 1)
    nodes.obey()
    nodes.beat()
    release_job(job)
    nodes.tick()
    nodes.finish(Resume.objects.get(job=job))
    job.refresh_from_db()
    assert (job.state, job.epoch, job.resume_from) == ("running", 2, None)


def test_a_drain_moves_a_job_off_by_a_generation_and_ends_when_images_are_elsewhere(nodes: Nodes) -> None:
    job = nodes.run_job(pods=1)
    where = pods_of(job)[0].node.name
    drain_node(where)
    for _ in range(12):
        nodes.tick()
        for resume in Resume.objects.filter(job=job):
            nodes.finish(resume)
        nodes.obey()
        nodes.beat()
    job.refresh_from_db()
    node = Node.objects.get(name=where)
    assert (job.state, job.epoch) == ("running", 2)
    assert pods_of(job)[0].node.name != where
    assert node.state == "drained", node.drain_words
    assert Generation.objects.get(job=job).then == "stop"


def test_a_drain_that_cannot_move_a_job_says_why_and_leaves_it_running(nodes: Nodes) -> None:
    job = nodes.run_job(mem_bytes=5 * GIB)
    where = pods_of(job)[0].node.name
    drain_node(where)
    nodes.tick()
    node = Node.objects.get(name=where)
    job.refresh_from_db()
    assert (node.state, job.state) == ("draining", "running")
    assert f"job {job.number} stays" in node.drain_words


def test_cancel_while_a_rollback_is_under_way_ends_both(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    resume = resume_run(job, first, cause="rollback")
    cancel_job(job)
    nodes.tick()
    resume.refresh_from_db()
    job.refresh_from_db()
    assert (resume.state, job.state) == ("failed", "cancelled")


def test_a_finished_job_can_be_rolled_back(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    nodes.pod_report(pods_of(job)[0], "ended", exit_status=0)
    job.refresh_from_db()
    assert job.state == "completed"
    nodes.obey()
    nodes.beat()
    resume = resume_run(job, first, cause="rollback")
    nodes.finish(resume)
    job.refresh_from_db()
    assert (job.state, job.exit_status) == ("running", None)


def test_the_plan_says_what_is_lost_and_changes_nothing(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    pod = pods_of(job)[0]
    nodes.report(pod.node.name, "log", log_body(pod, 0, b"x" * 500))
    Run.objects.filter(job=job).update(started_at=timezone.now() - timedelta(seconds=100))
    plan = plan_resume(job, first, ["node2"])
    assert plan.placement == {0: "node2", 1: "node2", 2: "node2"}
    assert plan.lost_log_bytes == 490
    assert plan.lost_s > 90
    assert plan.possible
    assert not Resume.objects.exists()
    assert "kept as a generation first" in plan.words()


def test_an_unknown_node_in_a_placement_is_refused(nodes: Nodes) -> None:
    job = nodes.run_job()
    first = nodes.generation(job)
    with pytest.raises(Problem, match="there is no node 'nowhere'"):
        plan_resume(job, first, ["nowhere"])


def test_the_restore_gets_the_marks_and_the_log_goes_on_there(nodes: Nodes) -> None:
    from jobs.services import read_log, read_stream

    job = nodes.run_job()
    pod = pods_of(job)[0]
    nodes.report(pod.node.name, "log", log_body(pod, 0, b"0123456789"))
    first = nodes.generation(job)
    nodes.report(pod.node.name, "log", log_body(pod, 10, b"this is undone"))
    nodes.finish(resume_run(job, first, cause="rollback"))
    job.refresh_from_db()
    pod = pods_of(job)[0]
    assert pod.stdout_bytes == 10
    nodes.report(pod.node.name, "log", log_body(pod, 10, b"new"))
    assert b"".join(read_stream(job, 0, "stdout")) == b"0123456789new"
    history, _ = read_log(job, epoch=1, pod=0)
    assert "".join(item["text"] for item in history) == "0123456789this is undone"


def test_a_resume_is_carried_on_by_a_clock_that_knows_nothing_of_it(nodes: Nodes) -> None:
    from checkpoints.clock.passes import Clock

    job = nodes.run_job()
    first = nodes.generation(job)
    resume = resume_run(job, first, cause="rollback")
    for _ in range(3):
        nodes.clock = Clock(leader_since=timezone.now())
        nodes.tick()
    nodes.finish(resume)
    assert resume.state == "done"


def test_every_run_has_a_network_of_its_own(nodes: Nodes) -> None:
    """A node that was cut off still sends for the older run, from the same addresses: nobody may hear it."""
    job = nodes.run_job()
    before = {row.body["vni"] for row in Command.objects.filter(kind="start_pod")}
    nodes.finish(resume_run(job, nodes.generation(job), cause="rollback"))
    after = {row.body["vni"] for row in Command.objects.filter(kind="restore_pod")}
    assert len(before) == len(after) == 1
    assert before.isdisjoint(after)
