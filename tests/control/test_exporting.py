"""A generation as one file, over REST: whole, each shared chunk once, from whichever node answers; and never one that seems whole."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import StreamingHttpResponse
from django.test import AsyncRequestFactory, Client

from checkpoints.models import Generation, Snapshot
from checkpoints.services import exporting
from clusteros.core.problems import Problem
from clusteros.core.streaming import StreamMiddleware
from jobs.models import Job
from nodes.agent.storeserver import DIGESTS_MAX
from nodes.models import Node
from tests.control.cluster import Nodes
from tests.control.stores import CHUNKS, DEAD, PODS, FakeStore, TwoPods, give_images, serving
from tests.control.test_api import problem, send

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]


@pytest.fixture
def job(nodes: Nodes, alice: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    found = nodes.run_job(alice, pods=2)
    give_images(nodes.generation(found))
    monkeypatch.setattr(exporting, "BATCH_BYTES", 150)
    with serving(TwoPods) as url:
        Node.objects.update(store_url=url)
        yield found


def address(job: Job) -> str:
    return f"/jobs/{job.number}/generations/1/export"


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar.getmembers()}  # type: ignore[union-attr]


def test_all_of_it_is_there_and_what_pods_share_once(job: Job, alice: User, rest: Rest) -> None:
    answer = send(rest(alice), "GET", address(job))
    found = members(b"".join(answer.streaming_content))
    name = f"job{job.number}-g1"
    assert f'filename="{name}.tar"' in answer["Content-Disposition"]
    assert list(found)[:2] == [f"{name}/README", f"{name}/certificate.json"]
    assert list(found)[-1] == f"{name}/end"
    certificate = json.loads(found[f"{name}/certificate.json"])
    assert certificate == Generation.objects.get(job=job).certificate
    assert certificate["signature"]
    assert [found[f"{name}/pod-{pod}/manifest"].decode() for pod in range(2)] == list(PODS)
    streams = [data for each, data in found.items() if "/chunks-" in each]
    assert len(streams) > 2, "more than one batch of the first pod"
    assert all(stream.startswith(b"COSCHNKS") and stream.endswith(bytes(48)) for stream in streams)
    assert [sum(chunk in stream for stream in streams) for chunk in CHUNKS[1:]] == [1, 1, 1, 1]


def test_many_small_chunks_are_asked_for_in_as_many_requests_as_a_node_bears(
    job: Job, alice: User, rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exporting.BATCH_CHUNKS <= DIGESTS_MAX
    monkeypatch.setattr(exporting, "BATCH_BYTES", 1 << 20)
    monkeypatch.setattr(exporting, "BATCH_CHUNKS", 1)
    found = members(b"".join(send(rest(alice), "GET", address(job)).streaming_content))
    assert sum("/chunks-" in name for name in found) == len(CHUNKS)


def test_the_next_holder_is_asked_when_one_is_gone(job: Job, alice: User, rest: Rest) -> None:
    first = Node.objects.filter(replicas__complete=True).order_by("name")[0]
    Node.objects.filter(pk=first.pk).update(store_url=DEAD)
    assert members(b"".join(send(rest(alice), "GET", address(job)).streaming_content))


@pytest.mark.parametrize(
    "spoil",
    [lambda stream: stream[:-48], lambda stream: stream[:-1], lambda stream: b"", lambda stream: stream + b"x", lambda stream: b"x" * 99,
     lambda stream: stream[:8] + bytes(48) + stream[8:], lambda stream: stream[:40] + b"\xff\xff\xff\xff" + stream[44:]],
)  # fmt: skip
def test_what_is_not_whole_breaks_off(job: Job, alice: User, rest: Rest, monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    monkeypatch.setattr(TwoPods, "spoil", staticmethod(spoil))
    with pytest.raises(Problem, match="gave all chunks"):
        b"".join(send(rest(alice), "GET", address(job)).streaming_content)


def test_a_wrong_manifest_breaks_off(job: Job, alice: User, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PODS, "the manifest of pod 0", [0])
    snapshot = Snapshot.objects.get(pod=1)
    monkeypatch.setattr(TwoPods, "say", lambda self, status, body: FakeStore.say(self, status, body.replace(b"pod 1", b"pod 7")))
    with pytest.raises(Problem, match=f"manifest of pod {snapshot.pod}"):
        b"".join(send(rest(alice), "GET", address(job)).streaming_content)


def test_what_cannot_be_had_is_refused_at_the_door(job: Job, alice: User, bob: User, rest: Rest) -> None:
    problem(send(rest(bob), "GET", address(job)), 404, "NOT_FOUND")
    problem(send(rest(alice), "GET", f"/jobs/{job.number}/generations/9/export"), 404, "NOT_FOUND")
    Node.objects.update(state="lost")
    assert send(rest(alice), "GET", address(job)).json()["code"] == "LOST"


def test_the_asgi_server_passes_on_piece_by_piece() -> None:
    """No piece is made before the one before it was sent: a generation is never whole in the web process's memory."""
    made: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(4):
            made.append(number)
            yield b"x"

    async def read() -> list[int]:
        response = StreamMiddleware(lambda request: StreamingHttpResponse(pieces()))(AsyncRequestFactory().get("/"))
        return [len(made) async for _ in response]  # type: ignore[attr-defined]

    assert asyncio.run(read()) == [1, 2, 3, 4]
