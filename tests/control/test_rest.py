"""REST, beyond single verbs: many jobs in one call, arrays, filters, sparse fields, ETags, rates, a submission only tried,
and the stream of events that goes on where it ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from clusteros.core import rates
from clusteros.core.events import record_event
from clusteros.core.models import Event
from clusteros.environment import environment
from jobs.models import Job
from tests.control.cluster import GIB, Nodes
from tests.control.test_api import API, GOOD, problem, send

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]


# ---- many at once


def test_ten_thousand_jobs_are_submitted_in_one_call(nodes: Nodes, alice: User, rest: Rest) -> None:
    started = time.monotonic()
    with CaptureQueriesContext(connection) as queries:
        answer = send(rest(alice), "POST", "/jobs/bulk", [{**GOOD, "name": f"n{i}"} for i in range(10_000)], **{"Idempotency-Key": "many"})
    assert answer.status_code == 201, answer.content[:300]
    items = answer.json()["items"]
    assert (len(items), items[0]["name"], items[-1]["name"]) == (10_000, "n0", "n9999")
    assert [item["number"] for item in items] == sorted(item["number"] for item in items)
    assert Job.objects.count() == Event.objects.filter(kind="job.queued").count() == 10_000
    assert len(queries) < 60
    assert time.monotonic() - started < 60


def test_one_bad_job_among_many_is_named_by_its_place(nodes: Nodes, alice: User, rest: Rest) -> None:
    answer = send(rest(alice), "POST", "/jobs/bulk", [GOOD, GOOD, {**GOOD, "pods": 13}])
    problem(answer, 422, "NO_ROOM", "job 2 of the list: needs room for 13 pods")
    assert answer.json()["at"] == 2
    problem(send(rest(alice), "POST", "/jobs/bulk", []), 422, "INVALID", "between 1 and 10000")
    assert not Job.objects.exists()


def test_an_array_is_one_job_for_each_index(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    made = send(client, "POST", "/jobs/array", {**GOOD, "array": "1-7:3,20"}).json()
    assert [item["array_index"] for item in made["items"]] == [1, 4, 7, 20]
    jobs = list(Job.objects.order_by("number"))
    assert [job.env["CLUSTEROS_ARRAY_INDEX"] for job in jobs] == ["1", "4", "7", "20"]
    assert {job.array for job in jobs} == {jobs[0].number} == {made["array"]}
    send(client, "POST", "/jobs", GOOD)
    assert len(send(client, "GET", f"/jobs?array={made['array']}").json()["items"]) == 4


@pytest.mark.parametrize("array", ["", "x", "5-1", "0-9:0", "0-10000", "1,1", "0-99999999", "-1", "1-2-3"])
def test_an_array_that_is_none_is_refused(nodes: Nodes, alice: User, rest: Rest, array: str) -> None:
    problem(send(rest(alice), "POST", "/jobs/array", {**GOOD, "array": array}), 422, "INVALID", "array")
    assert not Job.objects.exists()


# ---- a submission only tried


def test_a_dry_run_says_where_and_when_and_submits_nothing(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    now = send(client, "POST", "/jobs?dry_run=1", GOOD).json()
    assert (now["in_s"], len(now["placement"])) == (0, 2)
    assert "at once on node" in now["words"]
    nodes.run_job(alice, pods=3, ranks_per_pod=4, walltime_s=600)
    later = send(client, "POST", "/jobs?dry_run=1", {**GOOD, "mem_bytes": GIB}).json()
    assert 500 < later["in_s"] <= 600
    assert "waits for room" in later["waits"]
    problem(send(client, "POST", "/jobs?dry_run=1", {**GOOD, "pods": 99}), 422, "NO_ROOM")
    assert Job.objects.count() == 1


def test_nobody_can_say_when_a_job_without_walltime_ends(nodes: Nodes, alice: User, rest: Rest) -> None:
    nodes.run_job(alice, pods=3, ranks_per_pod=4)
    later = send(rest(alice), "POST", "/jobs?dry_run=1", GOOD).json()
    assert later["in_s"] is None
    assert "nobody can say" in later["words"]


# ---- lists


def test_lists_are_filtered_and_answer_only_the_fields_asked_for(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    for name in ("heat-1", "heat-2", "other"):
        send(client, "POST", "/jobs", {**GOOD, "name": name})
    seen = send(client, "GET", "/jobs?name=heat&fields=name,state").json()["items"]
    assert seen == [{"name": "heat-2", "state": "queued"}, {"name": "heat-1", "state": "queued"}]
    assert send(client, "GET", "/jobs?since=2999-01-01T00:00:00Z").json()["items"] == []
    assert len(send(client, "GET", "/jobs?until=2999-01-01T00:00:00").json()["items"]) == 3
    assert [n["name"] for n in send(client, "GET", "/nodes?state=up&fields=name").json()["items"]] == ["node1", "node2", "node3"]
    for query in ("/jobs?fields=nonsense", "/jobs?since=yesterday", "/nodes?fields=secret"):
        problem(send(client, "GET", query), 422, "INVALID")


def test_lists_cost_the_same_number_of_queries_however_long_they_are(nodes: Nodes, carol: User, rest: Rest) -> None:
    client = rest(carol)
    job = nodes.run_job(carol)
    nodes.generation(job)
    paths = ("/jobs", "/nodes", f"/jobs/{job.number}/runs", f"/jobs/{job.number}/generations", f"/jobs/{job.number}/events")

    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert send(client, "GET", path).status_code == 200
        return len(queries)

    send(client, "GET", "/me")  # the first use of a token is noted
    before = {path: count(path) for path in paths}
    nodes.run_job(carol, pods=2)
    for _ in range(3):
        nodes.generation(job)
    after = {path: count(path) for path in paths}
    assert all(after[path] <= before[path] + 1 for path in paths), (before, after)  # one more while the newest ids may still have gaps


# ---- tags and limits


def test_what_is_known_already_is_not_sent_again(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    number = send(client, "POST", "/jobs", GOOD).json()["number"]
    first = send(client, "GET", f"/jobs/{number}")
    again = send(client, "GET", f"/jobs/{number}", **{"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    send(client, "POST", f"/jobs/{number}/hold")
    changed = send(client, "GET", f"/jobs/{number}", **{"If-None-Match": first["ETag"]})
    assert (changed.status_code, changed.json()["state"]) == (200, "held")


def test_what_changed_meanwhile_is_not_overwritten(nodes: Nodes, alice: User, rest: Rest) -> None:
    job, client = nodes.run_job(alice), rest(alice)
    nodes.generation(job)
    path = f"/jobs/{job.number}/generations/1"
    old = send(client, "GET", path)["ETag"]
    pinned = send(client, "PATCH", path, {"pinned": True}, **{"If-Match": old})
    assert pinned.status_code == 200
    problem(send(client, "PATCH", path, {"pinned": False}, **{"If-Match": old}), 412, "STALE", "read it again")
    assert send(client, "PATCH", path, {"pinned": False}, **{"If-Match": pinned["ETag"]}).json()["pinned"] is False
    problem(send(client, "DELETE", f"/jobs/{job.number}", **{"If-Match": '"old"'}), 412, "STALE")
    assert Job.objects.get().state == "running"


def test_who_asks_too_much_is_told_when_to_come_again(alice: User, bob: User, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "requests_per_minute", 3)
    monkeypatch.setattr(rates.time, "time", lambda: 12_345_678.0)
    client = rest(alice)
    left = [int(send(client, "GET", "/me")["RateLimit-Remaining"]) for _ in range(3)]
    assert left == [2, 1, 0]
    refused = send(client, "GET", "/me")
    problem(refused, 429, "BUSY", "more than 3 requests")
    assert 0 < int(refused["Retry-After"]) <= 60
    assert send(rest(bob), "GET", "/me").status_code == 200, "others are not concerned"
    rates._store().delete(*rates._store().keys("rate:*"))


def test_without_redis_nobody_is_counted_and_nobody_refused(alice: User, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    import redis

    def away(user_id: str) -> int:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(rates, "_count", away)
    monkeypatch.setattr(rates, "_silent_until", 0.0)
    answer = send(rest(alice), "GET", "/me")
    assert answer.status_code == 200
    assert "RateLimit-Limit" not in answer


# ---- refusals that no view makes


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "NOT_FOUND"),
        ("PUT", "/jobs", {}, 405, "USAGE"),
        ("GET", "/jobs?name=%00", None, 422, "INVALID"),
        ("POST", "/jobs", {**GOOD, "name": "a\0b"}, 422, "INVALID"),
        ("POST", "/jobs", {**GOOD, "name": "\ud800"}, 422, "INVALID"),
        ("POST", "/jobs", 5, 400, "USAGE"),
        ("POST", "/jobs", {**GOOD, "pods": "2"}, 422, "INVALID"),
        ("POST", "/jobs", {**GOOD, "files": [{"path": "a", "data": "ä"}]}, 422, "INVALID"),
        ("GET", "/jobs/1/generations/99999999999", None, 404, "NOT_FOUND"),
    ],
)
def test_every_refusal_is_a_problem(
    nodes: Nodes, alice: User, rest: Rest, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = send(rest(alice), method, path, body)
    problem(answer, status, code)
    if status == 405:
        assert "GET" in answer["Allow"]


def test_a_file_is_taken_as_it_is_whatever_it_calls_itself(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    number = send(client, "POST", "/jobs", {**GOOD, "hold": True}).json()["number"]
    content = b'"a text with \\u0000 in it"'
    put = client.put(f"{API}/jobs/{number}/files/in.json", content, content_type="application/json")
    assert (put.status_code, put.json()["size"]) == (200, len(content)), put.content


def test_a_request_that_is_too_large_is_413(nodes: Nodes, alice: User, rest: Rest, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    problem(send(rest(alice), "POST", "/jobs", {**GOOD, "script": "x" * 2000}), 413, "INVALID", "too large")


def test_the_document_names_every_answer_with_an_example(db: None, alice: User, rest: Rest) -> None:
    document = send(rest(alice), "GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names)), "generated clients name their functions so"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert {"401", "429"} <= answers.keys(), (method, path)
            assert any(status.startswith(("2", "3")) for status in answers), (method, path)
            assert method == "get" or "409" in answers
    for refusal in document["components"]["responses"].values():
        example = refusal["content"]["application/problem+json"]["example"]
        assert {"code", "detail", "status", "title"} <= example.keys()


# ---- the stream of events


def _read(client: Client, wanted: int, **headers: str) -> list[dict[str, str]]:
    """The first events of the stream, as they came over the wire."""
    answer = client.get(f"{API}/events", headers={"Accept": "text/event-stream", **headers})
    assert answer["Content-Type"] == "text/event-stream"

    async def collect() -> bytes:
        text = b""
        async for piece in answer.streaming_content:  # type: ignore[attr-defined]
            text += piece
            if text.count(b"\nevent: ") >= wanted:
                break
        return text

    text = asyncio.run(asyncio.wait_for(collect(), 20)).decode()
    blocks = [block for block in text.split("\n\n") if "event: " in block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


@pytest.mark.django_db(transaction=True)
def test_a_stream_goes_on_after_the_last_event_that_was_seen(nodes: Nodes, alice: User, bob: User, rest: Rest) -> None:
    job, client = nodes.run_job(alice), rest(alice)
    Event.objects.update(at="2026-01-01T00:00:00Z")
    last = Event.objects.order_by("-id").values_list("id", flat=True)[0]
    for number in range(3):
        record_event("job.noted", f"note {number}", **job.event_refs())
    Event.objects.update(at="2026-01-01T00:00:00Z")
    first = _read(client, 2, **{"Last-Event-ID": str(last)})
    assert [json.loads(event["data"])["words"] for event in first[:2]] == ["note 0", "note 1"]
    rest_of_it = _read(client, 1, **{"Last-Event-ID": first[1]["id"]})
    assert json.loads(rest_of_it[0]["data"])["words"] == "note 2"
    assert rest_of_it[0]["event"] == "job.noted"
