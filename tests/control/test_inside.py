"""What a generation holds, over REST: asked of the nodes that have it (here a store server that answers as the protocol says),
with the next holder when one does not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.models import Job
from nodes.models import Node
from tests.control.cluster import Nodes, digest_of
from tests.control.stores import DEAD, FakeStore, serving
from tests.control.test_api import problem, send

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]
LISTED = [{"pid": 2, "ppid": 1, "name": "heat", "exe": "/work/heat", "state": "running", "threads": 3, "bytes": 4096}]


class Store(FakeStore):
    """A node's store: knows one node's secret and one image."""

    secret, digest = "", ""

    def do_GET(self) -> None:
        if not self.may_read(self.secret):
            return self.say(403, b"no")
        if self.path == f"/images/{self.digest}/processes":
            return self.say_json(200, {"processes": LISTED})
        if self.path == f"/images/{self.digest}/cores/2":
            return self.say(200, b"\x7fELF core")
        self.say(404, b"the image has no such process")


@pytest.fixture
def job(nodes: Nodes, alice: User) -> Iterator[Job]:
    found = nodes.run_job(alice, pods=1)
    generation = nodes.generation(found)
    Store.digest = digest_of(generation, 0)
    Node.objects.update(store_url=DEAD)
    holder = Node.objects.filter(replicas__digest=Store.digest).order_by("-name")[0]
    Store.secret = holder.secret
    with serving(Store) as url:
        Node.objects.filter(pk=holder.pk).update(store_url=url)
        yield found


def test_the_processes_of_a_generation_are_listed_by_any_node_that_answers(job: Job, alice: User, rest: Rest) -> None:
    seen = send(rest(alice), "GET", f"/jobs/{job.number}/generations/1/processes").json()
    assert seen["items"] == [{"pod": 0, "processes": LISTED, "words": ""}]


def test_a_core_is_passed_on_as_it_comes(job: Job, alice: User, rest: Rest) -> None:
    answer = send(rest(alice), "GET", f"/jobs/{job.number}/generations/1/core?pid=2")
    assert b"".join(answer.streaming_content) == b"\x7fELF core"
    assert f"job{job.number}-g1-pod0-2.core" in answer["Content-Disposition"]


@pytest.mark.parametrize(("query", "status"), [("pid=3", 404), ("pid=2&pod=5", 404), ("pid=-1", 404), ("pid=99999999999", 404), ("", 422)])
def test_what_is_not_there_is_refused(job: Job, alice: User, rest: Rest, query: str, status: int) -> None:
    assert send(rest(alice), "GET", f"/jobs/{job.number}/generations/1/core?{query}").status_code == status


def test_nodes_that_do_not_answer_are_named(job: Job, alice: User, bob: User, rest: Rest) -> None:
    Node.objects.update(store_url=DEAD)
    seen = send(rest(alice), "GET", f"/jobs/{job.number}/generations/1/processes").json()["items"][0]
    assert "did not answer" in seen["words"]
    problem(send(rest(alice), "GET", f"/jobs/{job.number}/generations/1/core?pid=2"), 503, "BUSY")
    problem(send(rest(bob), "GET", f"/jobs/{job.number}/generations/1/core?pid=2"), 404, "NOT_FOUND")
