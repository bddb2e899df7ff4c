"""Jobs from submit to their end: placing, starting, leases, verdicts, logs, and messages that are wrong, late or doubled."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from clusteros.core.models import Event
from clusteros.core.problems import Problem
from clusteros.core.states import move
from clusteros.envelope import seal
from jobs.models import Job, LogChunk, Pod, Run
from jobs.services import cancel_job, hold_queued, release_job, signal_job, submit_job, suspend_job, thaw_job
from nodes.models import Command, Node, NodeReport
from nodes.services import get_node, lose_node
from nodes.tasks import record
from tests.control.cluster import GIB, Nodes, log_body, request

pytestmark = pytest.mark.django_db


def pods_of(job: Job) -> list[Pod]:
    return list(Pod.objects.filter(run__job=job, run__epoch=job.epoch).select_related("node", "run"))


def test_pod_0_is_started_when_the_others_run(nodes: Nodes, alice: User) -> None:
    job = submit_job(alice, request())
    nodes.tick()
    assert sorted(row.body["pod"] for row in nodes.asked("start_pod")) == [1, 2]
    nodes.obey()
    job.refresh_from_db()
    assert job.state == "running"
    assert {p.node.name for p in pods_of(job)} == {"node1", "node2", "node3"}


def test_what_a_node_is_sent_is_a_whole_pod_spec(nodes: Nodes, alice: User) -> None:
    from nodes.agent.spec import take_spec

    submit_job(alice, request(env={"A": "b"}, files={"in/data.txt": b"hello"}))
    nodes.tick()
    body = nodes.asked("start_pod")[0].body
    spec = take_spec(body)
    assert (spec.uid, spec.hostname, spec.workdir) == (20000, f"pod-{spec.pod}", "/work")
    assert body["files"][0]["path"] == "in/data.txt"
    assert body["command"] is None, "only pod 0 runs the command"
    nodes.obey()
    first = Command.objects.get(kind="start_pod", body__pod=0)
    assert first.body["command"] == ["./program"]


def test_jobs_start_in_order_and_each_says_why_it_waits(nodes: Nodes, alice: User) -> None:
    first = submit_job(alice, request(mem_bytes=8 * GIB))
    second = submit_job(alice, request(mem_bytes=8 * GIB))
    third = submit_job(alice, request(pods=1))
    nodes.tick()
    for job in (first, second, third):
        job.refresh_from_db()
    assert (first.state, second.state, third.state) == ("starting", "queued", "queued")
    assert "do not fit beside what runs" in second.waiting_because
    assert third.waiting_because == f"waits behind job {second.number}"
    cancel_job(first)
    nodes.obey()
    nodes.beat()
    nodes.tick()
    second.refresh_from_db()
    assert second.state == "starting"


def test_a_command_that_cannot_be_started_fails_the_job_with_the_reason(nodes: Nodes, alice: User) -> None:
    job = submit_job(alice, request(pods=1))
    nodes.tick()
    nodes.pod_report(pods_of(Job.objects.get(pk=job.pk))[0], "failed", code="NO_COMMAND", message="./program: not found")
    job.refresh_from_db()
    assert job.state == "failed"
    assert "not found" in job.reason


def test_the_end_of_the_command_ends_the_job_and_every_pod(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.pod_report(pods_of(job)[0], "ended", exit_status=0)
    job.refresh_from_db()
    assert (job.state, job.exit_status) == ("completed", 0)
    assert sorted(row.body["pod"] for row in nodes.asked("end_pod")) == [1, 2], "pod 0 waits for its files"
    assert all(row.body["upload"] for row in nodes.asked("end_pod"))


def test_an_error_exit_counts_only_after_all_other_pods_were_seen_alive(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.pod_report(pods_of(job)[0], "ended", exit_status=1)
    nodes.tick()
    job.refresh_from_db()
    assert job.state == "running", "the error may come from the loss of a node"
    Run.objects.filter(job=job).update(command_ended_at=time.time() - 5)
    nodes.beat()
    nodes.tick()
    job.refresh_from_db()
    assert (job.state, job.exit_status) == ("failed", 1)


def test_an_error_exit_after_the_loss_of_a_node_is_the_nodes_fault(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.generation(job)
    pods = pods_of(job)
    nodes.pod_report(pods[0], "ended", exit_status=1)
    lose_node(get_node(pods[1].node.name), "test")
    for _ in range(3):
        nodes.tick()
    job.refresh_from_db()
    assert job.state != "failed"
    assert job.resumes.exists()


def test_a_lease_is_given_to_what_should_live_and_to_nothing_else(nodes: Nodes) -> None:
    job = nodes.run_job()
    pod = pods_of(job)[0]
    answer = nodes.heartbeat(pod.node.name)
    assert answer is not None
    assert answer["pods"] == [{"run": str(pod.run_id), "epoch": 1, "pod": 0}]
    pod.refresh_from_db()
    assert pod.lease_until is not None
    assert 7 < (pod.lease_until - timezone.now()).total_seconds() <= 8
    cancel_job(job)
    answer = nodes.heartbeat(pod.node.name)
    assert answer is not None
    assert answer["pods"] == []
    assert answer["ended"] == [{"run": str(pod.run_id), "epoch": 1, "pod": 0}]


def test_an_older_heartbeat_changes_nothing(nodes: Nodes) -> None:
    node = Node.objects.get(name="node1")
    assert nodes.heartbeat("node1", boottime_ns=node.boottime_ns - 1) is None
    assert nodes.heartbeat("node1", boottime_ns=node.boottime_ns) is None


def test_a_pod_that_an_inventory_had_and_the_next_has_not_is_lost(nodes: Nodes) -> None:
    job = nodes.run_job()
    pod = pods_of(job)[1]
    nodes.pods[pod.node.name].clear()
    nodes.heartbeat(pod.node.name)
    pod.refresh_from_db()
    assert pod.state == "lost"


def test_silence_of_one_node_is_a_loss_and_silence_of_all_is_ours(nodes: Nodes) -> None:
    old = timezone.now() - timedelta(seconds=90)
    Node.objects.update(last_heartbeat=old)
    for _ in range(2):
        nodes.tick()
    assert not Node.objects.filter(state="lost").exists()
    nodes.clock.listening_since = nodes.clock.leader_since
    Node.objects.exclude(name="node3").update(last_heartbeat=timezone.now())
    nodes.tick()
    assert [n.name for n in Node.objects.filter(state="lost")] == ["node3"]


def test_a_message_with_a_wrong_secret_of_an_unknown_node_or_kind_is_dropped(nodes: Nodes) -> None:
    before = Event.objects.count()
    record(seal("node1", "not the secret", "pod", {}))
    record(seal("stranger", "any", "pod", {}))
    record(seal("node1", Node.objects.get(name="node1").secret, "lease", {}))
    record({"node": "node1"})
    record("nonsense")
    assert (Event.objects.count(), NodeReport.objects.count()) == (before, 0)


@pytest.mark.parametrize(
    "body",
    [{}, {"run": "x"}, {"run": str(uuid.uuid4()), "epoch": 1, "pod": 0, "state": "running"}, {"run": None, "pod": "zero"}],
)
def test_a_report_that_makes_no_sense_is_refused_and_acknowledged(nodes: Nodes, body: dict[str, object]) -> None:
    envelope = nodes.report("node1", "pod", body)
    assert NodeReport.objects.get(pk=envelope["id"]).refused
    answer = nodes.heartbeat("node1")
    assert answer is not None
    assert envelope["id"] in answer["acked"]


def test_a_report_repeated_in_a_heartbeat_is_taken_once_and_acknowledged(nodes: Nodes) -> None:
    job = nodes.run_job()
    pod = pods_of(job)[0]
    node = pod.node
    envelope = seal(node.name, node.secret, "log", log_body(pod, 0, b"hello"))
    answer = nodes.heartbeat(node.name, unacked=[envelope])
    record(envelope)
    assert answer is not None
    assert envelope["id"] in answer["acked"]
    assert LogChunk.objects.count() == 1


def test_log_chunks_are_kept_without_gap_or_overlap_in_any_order(nodes: Nodes) -> None:
    from jobs.services import read_stream

    job = nodes.run_job()
    pod = pods_of(job)[0]
    for offset, data in [(0, b"abc"), (6, b"ghi"), (0, b"abcd"), (2, b"cdef"), (6, b"ghi"), (0, b"abcdefghi")]:
        nodes.report(pod.node.name, "log", log_body(pod, offset, data))
    assert b"".join(read_stream(job, 0, "stdout")) == b"abcdefghi"
    answer = nodes.heartbeat(pod.node.name)
    assert answer is not None
    assert answer["logs"][0]["stdout"] == 9


def test_a_command_is_sent_again_until_its_effect_is_reported(nodes: Nodes, alice: User) -> None:
    submit_job(alice, request(pods=1))
    nodes.tick()
    row = nodes.asked("start_pod")[0]
    for count in (1, 2):
        Command.objects.filter(pk=row.pk).update(next_send_at=timezone.now() - timedelta(seconds=1))
        nodes.tick()
        row.refresh_from_db()
        assert row.sent_count >= count
    nodes.obey()
    row.refresh_from_db()
    assert row.done_at is not None


def test_suspend_and_resume_follow_the_pods(nodes: Nodes) -> None:
    job = nodes.run_job()
    suspend_job(job)
    assert len(nodes.asked("freeze_pod")) == 3
    job.refresh_from_db()
    assert job.state == "running"
    nodes.obey()
    job.refresh_from_db()
    assert job.state == "suspended"
    thaw_job(job)
    nodes.obey()
    job.refresh_from_db()
    assert job.state == "running"
    suspend_job(job)
    assert len(nodes.asked("freeze_pod")) == 3, "a second time asks again"


def test_hold_and_release_of_a_queued_job(nodes: Nodes, alice: User) -> None:
    job = submit_job(alice, request(hold=True))
    nodes.tick()
    job.refresh_from_db()
    assert job.state == "held"
    release_job(job)
    hold_queued(job)
    release_job(job)
    nodes.tick()
    job.refresh_from_db()
    assert job.state == "starting"


def test_walltime_ends_a_job(nodes: Nodes) -> None:
    job = nodes.run_job(walltime_s=10)
    Run.objects.filter(job=job).update(started_at=timezone.now() - timedelta(seconds=11))
    nodes.tick()
    job.refresh_from_db()
    assert job.state == "failed"
    assert "walltime" in job.reason


def test_a_signal_is_sent_once_and_an_unknown_one_is_refused(nodes: Nodes) -> None:
    job = nodes.run_job()
    signal_job(job, "usr1")
    assert {row.body["signal"] for row in nodes.asked("signal_pod")} == {10}
    with pytest.raises(Problem, match="is not a signal"):
        signal_job(job, "SIGNOTHING")


def test_an_undeclared_move_is_refused_and_writes_nothing(nodes: Nodes, alice: User) -> None:
    job = submit_job(alice, request())
    before = Event.objects.count()
    with pytest.raises(Problem, match="is queued and cannot become running"):
        move(job, "running")
    job.refresh_from_db()
    assert (job.state, Event.objects.count()) == ("queued", before)


def test_uids_of_users_are_their_own_and_never_a_systems(alice: User, bob: User) -> None:
    assert alice.profile.uid >= 20000
    assert alice.profile.uid != bob.profile.uid


def test_a_job_that_loses_a_pod_again_and_again_without_progress_is_held(nodes: Nodes) -> None:
    job = nodes.run_job()
    nodes.generation(job)
    Job.objects.filter(pk=job.pk).update(restarts=99)
    pod = pods_of(job)[2]
    nodes.pods[pod.node.name].clear()
    nodes.heartbeat(pod.node.name)
    nodes.tick()
    job.refresh_from_db()
    assert (job.state, job.resume_from) == ("held", 1)
