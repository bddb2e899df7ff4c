"""What a removal would give back: asked of every node that holds images of the job, summed, and honest about who did not answer.
What one user may take: the quota."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from checkpoints.services import take_generation
from checkpoints.services.keeping import delete_generation
from clusteros.core.models import Event
from clusteros.core.problems import Problem
from clusteros.environment import environment
from jobs.models import Job
from nodes.models import Node
from tests.control.cluster import Nodes
from tests.control.stores import DEAD, FakeStore, serving
from tests.control.test_api import problem, send

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]


class Store(FakeStore):
    """A node on which every image's removal gives back 1,000 bytes, and 50 more are shared by all of them."""

    answer: Any = None

    def do_POST(self) -> None:
        frees = [1000 * len(group) for group in json.loads(self.body())]
        self.say_json(200, {"frees": frees, "together": sum(frees) + 50} if self.answer is None else self.answer)


@pytest.fixture
def job(nodes: Nodes, alice: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    found = nodes.run_job(alice, pods=2)
    nodes.generation(found)
    nodes.generation(found)
    monkeypatch.setattr(Store, "answer", None)
    with serving(Store) as url:
        Node.objects.update(store_url=url)
        yield found


def test_replicas_on_all_nodes_are_summed(job: Job, alice: User, rest: Rest) -> None:
    seen = send(rest(alice), "GET", f"/jobs/{job.number}/store").json()
    assert [g["number"] for g in seen["generations"]] == [1, 2]
    assert [g["frees"] for g in seen["generations"]] == [4000, 4000], "two pods, two replicas each"
    assert (seen["together"] - 8000) % 50 == 0 < seen["together"] - 8000
    assert seen["words"] == ""


def test_who_does_not_answer_is_named(job: Job, alice: User, rest: Rest) -> None:
    Node.objects.update(store_url=DEAD)
    seen = send(rest(alice), "GET", f"/jobs/{job.number}/store").json()
    assert [g["frees"] for g in seen["generations"]] == [0, 0]
    assert "did not answer" in seen["words"]


@pytest.mark.parametrize(
    "answer", [{"frees": "x", "together": 1}, {"frees": [1], "together": 0, "more": 1}, [], "no", {"frees": [None, 2], "together": 1}]
)
def test_nonsense_from_a_node_is_no_figure(job: Job, alice: User, rest: Rest, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(Store, "answer", answer)
    seen = send(rest(alice), "GET", f"/jobs/{job.number}/store").json()
    assert [g["frees"] for g in seen["generations"]] == [0, 0]
    assert seen["words"]


def test_only_the_owner_sees_it(job: Job, bob: User, rest: Rest) -> None:
    problem(send(rest(bob), "GET", f"/jobs/{job.number}/store"), 404, "NOT_FOUND")


def test_the_console_says_it_before_anything_is_deleted(job: Job, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Client()
    console.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    assert "freed/" in console.get(f"/jobs/{job.number}/generations/1/delete/").content.decode()
    assert "3.9 KiB on all nodes together." in console.get(f"/jobs/{job.number}/generations/1/freed/").content.decode()
    seen = console.get(f"/jobs/{job.number}/store/").content.decode()
    assert seen.count("3.9 KiB") == 2
    assert "7." in seen, "together"
    Node.objects.update(store_url=DEAD)
    assert "did not say how much" in console.get(f"/jobs/{job.number}/generations/1/freed/").content.decode()
    assert "did not answer" in console.get(f"/jobs/{job.number}/store/").content.decode()
    console.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    assert console.get(f"/jobs/{job.number}/store/").status_code == 404


def test_the_store_page_shows_ones_share_where_there_is_a_quota(job: Job, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Client()
    console.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    assert "allowed" not in console.get("/store/").content.decode()
    monkeypatch.setattr(environment(), "store_quota_bytes", 3 << 30)
    assert "of 3.0 GiB allowed" in console.get("/store/").content.decode()


# ---- the quota


def test_who_has_had_his_share_takes_no_more_until_some_is_gone(
    nodes: Nodes, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = nodes.run_job(alice), nodes.run_job(bob)
    taken = nodes.generation(job).bytes_new
    monkeypatch.setattr(environment(), "store_quota_bytes", 2 * taken)
    second = nodes.generation(job)
    with pytest.raises(Problem, match="the generations of alice take") as refused:
        take_generation(job)
    assert refused.value.code.name == "NO_SPACE"
    assert nodes.generation(other).state == "complete", "bob has a share of his own"
    delete_generation(second)
    assert take_generation(job).state == "taking"


def test_a_refused_one_that_was_due_is_told_and_due_again(nodes: Nodes, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    job = nodes.run_job(alice, interval_s=60)
    nodes.generation(job)
    monkeypatch.setattr(environment(), "store_quota_bytes", 1)
    Job.objects.filter(pk=job.pk).update(next_generation_at=timezone.now())
    nodes.tick()
    job.refresh_from_db()
    assert job.next_generation_at > timezone.now() + datetime.timedelta(seconds=30)
    assert "take" in Event.objects.get(kind="generation.refused").words


def test_what_saves_work_is_never_refused(nodes: Nodes, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    job = nodes.run_job(alice)
    nodes.generation(job)
    monkeypatch.setattr(environment(), "store_quota_bytes", 1)
    assert take_generation(job, cause="safety").state == "taking"
