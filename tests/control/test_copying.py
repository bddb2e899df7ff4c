"""A job that grows from a generation of another: what it shares, what it cannot change, and that both live on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from checkpoints.models import Generation, Resume
from checkpoints.services import copy_from_generation, delete_generation, take_generation
from checkpoints.services.replicas import remove_unneeded_images
from clusteros.core.problems import Problem
from jobs.models import Job, Pod
from jobs.services import cancel_job, read_log, suspend_job
from nodes.models import Command, Node
from tests.control.cluster import Nodes, log_body

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]


def post(client: Client, path: str, body: dict[str, Any]) -> Any:
    return client.post(f"/api/v1{path}", json.dumps(body), content_type="application/json")


def small(nodes: Nodes, owner: User) -> Job:
    return nodes.run_job(owner, pods=2, name="parent")


def grown(nodes: Nodes, copy: Job) -> Job:
    """The copy, carried until it runs."""
    nodes.tick()
    nodes.finish(Resume.objects.get(job=copy))
    nodes.beat()
    copy.refresh_from_db()
    return copy


def test_a_copy_runs_beside_its_source_from_the_same_images(nodes: Nodes, alice: User) -> None:
    job = small(nodes, alice)
    first = nodes.generation(job)
    nodes.generation(job)
    copy = grown(nodes, copy_from_generation(job, first, {"name": "child"}, acting_user=alice))
    job.refresh_from_db()
    assert (copy.state, job.state, copy.name, copy.copied_from_id) == ("running", "running", "child", job.pk)
    assert copy.started_at is not None
    digests = [set(g.snapshots.values_list("digest", flat=True)) for g in (first, copy.generations.get(number=1))]
    assert digests[0] == digests[1]
    nodes.generation(copy)
    assert list(copy.generations.values_list("number", "parent__number")) == [(1, None), (2, 1)]
    assert job.generations.count() == 2, "the source has no part in it"


def test_the_copy_keeps_the_images_when_the_source_gives_them_up(nodes: Nodes, alice: User) -> None:
    job = small(nodes, alice)
    first, _ = nodes.generation(job), nodes.generation(job)
    copy = copy_from_generation(job, first)
    delete_generation(first)
    remove_unneeded_images()
    assert not Command.objects.filter(kind="remove_images").exists()
    copy = grown(nodes, copy)
    nodes.generation(copy)
    delete_generation(copy.generations.get(number=1))
    remove_unneeded_images()
    assert Command.objects.filter(kind="remove_images").exists(), "now nobody needs them"


def test_the_output_of_a_copy_begins_at_its_generation(nodes: Nodes, alice: User) -> None:
    job = small(nodes, alice)
    pod = Pod.objects.select_related("run", "node").get(run=job.current_run, index=0)
    nodes.report(pod.node.name, "log", log_body(pod, 0, b"before it\n"))
    copy = grown(nodes, copy_from_generation(job, nodes.generation(job)))
    pod = Pod.objects.select_related("run", "node").get(run=copy.current_run, index=0)
    assert pod.stdout_bytes == 10
    nodes.report(pod.node.name, "log", log_body(pod, 10, b"after it\n"))
    assert [item["text"] for item in read_log(copy)[0]] == ["after it\n"]
    assert [item["text"] for item in read_log(job)[0]] == ["before it\n"]


def test_a_copy_waits_for_room_and_says_so(nodes: Nodes, alice: User, rest: Rest) -> None:
    job = nodes.run_job(alice, pods=3, ranks_per_pod=4)
    nodes.generation(job)
    client = rest(alice)
    plan = post(client, f"/jobs/{job.number}/copy", {"generation": 1, "dry_run": True}).json()
    assert "waits for room" in plan["waits"]
    answer = post(client, f"/jobs/{job.number}/copy", {"generation": 1})
    assert answer.status_code == 201, answer.content
    assert answer.json()["copied_from"] == {"job": job.number, "generation": 1}
    nodes.tick()
    copy = Job.objects.get(number=answer.json()["number"])
    assert copy.state == "queued"
    assert "waits for room" in copy.waiting_because
    cancel_job(job)
    nodes.obey()
    nodes.tick()
    assert grown(nodes, copy).state == "running"


def test_a_dry_run_makes_nothing(nodes: Nodes, alice: User, rest: Rest) -> None:
    job = small(nodes, alice)
    nodes.generation(job)
    plan = post(rest(alice), f"/jobs/{job.number}/copy", {"generation": 1, "dry_run": True, "nodes": ["node3"]}).json()
    assert (plan["placement"], plan["possible"], plan["waits"]) == ({"0": "node3", "1": "node3"}, True, "")
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"generation": 9}, 404, "no generation 9"),
        ({"generation": 1, "pods": 3}, 422, "as its processes are"),
        ({"generation": 1, "env": {"A": "b"}}, 422, "as its processes are"),
        ({"generation": 1, "keep": 0}, 422, "keep"),
        ({"generation": 1, "name": "a\nb"}, 422, "name"),
        ({"generation": 1, "nodes": ["nowhere"]}, 422, "no node 'nowhere'"),
        ({"generation": 1, "priority": 5}, 422, "priority"),
        ({"generation": 2}, 409, "not complete"),
        ({"dry_run": True}, 422, "dry_run"),
    ],
)
def test_a_copy_that_cannot_be_is_refused_in_words(
    nodes: Nodes, alice: User, rest: Rest, body: dict[str, Any], status: int, words: str
) -> None:
    job = small(nodes, alice)
    nodes.generation(job)
    take_generation(job)
    answer = post(rest(alice), f"/jobs/{job.number}/copy", body)
    assert answer.status_code == status, answer.content
    assert words in answer.json()["detail"]
    assert Job.objects.count() == 1


def test_a_copy_can_be_made_held_and_of_a_job_that_is_over(nodes: Nodes, alice: User) -> None:
    job = small(nodes, alice)
    first = nodes.generation(job)
    cancel_job(job)
    copy = copy_from_generation(job, first, {"hold": True})
    nodes.tick()
    copy.refresh_from_db()
    assert (copy.state, copy.resume_from) == ("held", 1)
    assert Generation.objects.get(job=copy).certificate is not None, "it outlives the database"


def test_the_list_of_jobs_shows_the_last_generation(nodes: Nodes, alice: User, rest: Rest) -> None:
    job = small(nodes, alice)
    nodes.generation(job)
    nodes.generation(job)
    answer = rest(alice).get("/api/v1/jobs").json()["items"][0]
    assert answer["last_generation"]["number"] == 2


def test_a_pod_that_nobody_can_freeze_is_not_asked_to(nodes: Nodes, alice: User) -> None:
    job = small(nodes, alice)
    doctor = {"probes": [{"name": "freezer", "ok": False, "reason": "no delegated group"}]}
    Node.objects.filter(pk=job.current_run.pods.get(index=1).node_id).update(doctor=doctor)
    with pytest.raises(Problem, match=r"cannot freeze it \(no delegated group\)") as refused:
        suspend_job(job)
    assert refused.value.code.name == "UNSUPPORTED"
    assert not Command.objects.filter(kind="freeze_pod").exists()


def test_a_follower_of_the_log_waits_for_a_chunk_that_may_still_appear(nodes: Nodes, alice: User) -> None:
    from jobs.models import LogChunk

    job = small(nodes, alice)
    run = job.current_run
    old = timezone.now() - timezone.timedelta(seconds=30)

    def chunk(number: int, at: Any = None) -> None:
        LogChunk.objects.create(id=number, run=run, pod=0, stream="stdout", offset=number, data=b"x")
        LogChunk.objects.filter(id=number).update(recorded_at=at or timezone.now())

    chunk(100, old)
    chunk(103, old)
    chunk(104)
    chunk(106)
    items, last = read_log(job)
    assert ([item["id"] for item in items], last) == ([100, 103, 104], 104), "an old gap is empty, a fresh one may be filled"
    chunk(105)
    items, last = read_log(job, after=last)
    assert ([item["id"] for item in items], last) == ([105, 106], 106)
