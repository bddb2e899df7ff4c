"""What a removal would give back: asked of every node that holds images of the job, summed, and honest about who did not answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.models import Job
from nodes.models import Node
from tests.control.cluster import Nodes
from tests.control.test_api import problem, send

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]


class Store(BaseHTTPRequestHandler):
    """A node on which every image's removal gives back 1,000 bytes, and 50 more are shared by all of them."""

    answer: Any = None

    def do_POST(self) -> None:
        groups = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        frees = [1000 * len(group) for group in groups]
        body = json.dumps({"frees": frees, "together": sum(frees) + 50} if self.answer is None else self.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def job(nodes: Nodes, alice: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    found = nodes.run_job(alice, pods=2)
    nodes.generation(found)
    nodes.generation(found)
    monkeypatch.setattr(Store, "answer", None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Node.objects.update(store_url=f"http://127.0.0.1:{server.server_address[1]}")
    yield found
    server.shutdown()
    server.server_close()


def test_replicas_on_all_nodes_are_summed(job: Job, alice: User, rest: Rest) -> None:
    seen = send(rest(alice), "GET", f"/jobs/{job.number}/store").json()
    assert [g["number"] for g in seen["generations"]] == [1, 2]
    assert [g["frees"] for g in seen["generations"]] == [4000, 4000], "two pods, two replicas each"
    assert (seen["together"] - 8000) % 50 == 0 < seen["together"] - 8000
    assert seen["words"] == ""


def test_who_does_not_answer_is_named(job: Job, alice: User, rest: Rest) -> None:
    Node.objects.update(store_url="http://127.0.0.1:9")
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
