"""The REST API: bad input first, then who may see what, then pages, events, idempotency and files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checkpoints.models import Generation
from clusteros.accounts.services import make_token
from clusteros.envelope import sign_request
from jobs.models import Job
from nodes.models import JoinToken, Node
from tests.control.cluster import GIB, Nodes

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]
API = "/api/v1"
GOOD = {"command": ["./solve", "x"], "pods": 2}


def send(client: Client, method: str, path: str, body: Any = None, **headers: str) -> Any:
    data = json.dumps(body) if body is not None else ""
    return client.generic(method, API + path, data, content_type="application/json", headers=headers)


def problem(response: Any, status: int, code: str, words: str = "") -> None:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    content = response.json()
    assert content["code"] == code
    assert content["status"] == status
    assert words in content["detail"], content["detail"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"command": None}, "either a command"),
        ({"script": "#!/bin/sh\ntrue"}, "either a command"),
        ({"command": None, "script": "echo no interpreter"}, "#!/bin/sh"),
        ({"command": [""]}, "empty"),
        ({"command": ["a\0b"]}, "NUL"),
        ({"command": "not a list"}, "list"),
        ({"pods": 0}, "pods: between 1 and 1024"),
        ({"pods": "many"}, "pods"),
        ({"mem_bytes": 1}, "mem_bytes"),
        ({"interval_s": -3}, "interval_s"),
        ({"keep": 0}, "keep"),
        ({"workdir": "relative"}, "workdir"),
        ({"workdir": "/a/../b"}, "workdir"),
        ({"env": {"1BAD": "x"}}, "env"),
        ({"files": [{"path": "../up", "data": ""}]}, "clean path"),
        ({"files": [{"path": "/abs", "data": ""}]}, "clean path"),
        ({"files": [{"path": "a", "data": "%%%"}]}, "base64"),
        ({"queue": "other"}, "no queue"),
        ({"placement": "pile"}, "spread or pack"),
        ({"name": "a\nb"}, "name"),
        ({"unknown_field": 1}, "unknown_field"),
        ({"nodes": ["nowhere"]}, "nowhere"),
    ],
)
def test_a_malformed_job_is_refused_with_the_reason(nodes: Nodes, alice: User, rest: Rest, change: dict[str, Any], words: str) -> None:
    response = send(rest(alice), "POST", "/jobs", {**GOOD, **change})
    problem(response, 422, "INVALID", words)
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"ranks_per_pod": 9}, "needs 9 cores on one node, the largest has 4"),
        ({"mem_bytes": 9 * GIB}, "needs 9.0 GiB of memory on one node, the largest has 8.0 GiB"),
        ({"pods": 13}, "needs room for 13 pods, all nodes together have room for 12"),
    ],
)
def test_an_impossible_size_is_refused_with_the_reason(nodes: Nodes, alice: User, rest: Rest, size: dict[str, int], words: str) -> None:
    problem(send(rest(alice), "POST", "/jobs", {**GOOD, **size}), 422, "NO_ROOM", words)


def test_a_body_that_is_not_json_is_refused(nodes: Nodes, alice: User, rest: Rest) -> None:
    response = rest(alice).post(API + "/jobs", "{not json", content_type="application/json")
    assert response.status_code in (400, 422)
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("token", ["", "cos_unknown", "x" * 5000])
def test_an_unknown_token_is_401(db: None, token: str) -> None:
    problem(Client(headers={"Authorization": f"Bearer {token}"}).get(API + "/jobs"), 401, "UNAUTHENTICATED")


def test_no_token_is_401_and_an_expired_one_says_when_it_expired(alice: User) -> None:
    problem(Client().get(API + "/jobs"), 401, "UNAUTHENTICATED")
    row, text = make_token(alice, "old", scopes=["read"], days=1)
    row.expires_at = row.created_at.replace(year=2020)
    row.save()
    response = Client(headers={"Authorization": f"Bearer {text}"}).get(API + "/jobs")
    problem(response, 401, "UNAUTHENTICATED", "expired at 2020")


def test_a_token_gives_its_scopes_and_no_more(nodes: Nodes, alice: User, carol: User, rest: Rest) -> None:
    problem(send(rest(alice, "read"), "POST", "/jobs", GOOD), 403, "DENIED", "scope write")
    problem(send(rest(alice), "POST", "/nodes/node1/drain"), 403, "DENIED")
    problem(send(rest(carol, "read", "write"), "POST", "/nodes/node1/drain"), 403, "DENIED")
    problem(send(rest(alice), "POST", "/tokens", {"scopes": ["admin"]}), 403, "DENIED")
    problem(send(rest(alice, "write"), "POST", "/tokens", {"scopes": ["read", "write"]}), 403, "DENIED", "more than itself")
    assert send(rest(carol), "POST", "/nodes/node1/drain").status_code == 200
    problem(send(rest(alice), "POST", "/nodes/tokens", {"hours": 1}), 403, "DENIED")
    assert send(rest(carol), "POST", "/nodes/tokens", {"hours": 1}).json()["token"].startswith("cosn_")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/signal", {"signal": "TERM"}),
        ("POST", "/hold", {}),
        ("POST", "/release", {}),
        ("POST", "/suspend", {}),
        ("POST", "/resume", {}),
        ("POST", "/copy", {}),
        ("POST", "/exec", {"argv": ["id"]}),
        ("GET", "/check", None),
        ("GET", "/runs", None),
        ("GET", "/events", None),
        ("GET", "/log", None),
        ("GET", "/files", None),
        ("GET", "/resumes", None),
        ("POST", "/generations", {}),
        ("GET", "/generations", None),
        ("GET", "/generations/1", None),
        ("PATCH", "/generations/1", {"pinned": True}),
        ("DELETE", "/generations/1", None),
        ("POST", "/rollback", {"generation": 1}),
    ],
)
def test_a_foreign_job_does_not_exist(
    nodes: Nodes, alice: User, bob: User, rest: Rest, method: str, path: str, body: Any
) -> None:
    number = send(rest(alice), "POST", "/jobs", GOOD).json()["number"]
    problem(send(rest(bob), method, f"/jobs/{number}{path}", body), 404, "NOT_FOUND")
    problem(send(rest(alice), method, f"/jobs/999999{path}", body), 404, "NOT_FOUND")
    problem(send(rest(alice), method, f"/jobs/not-a-job{path}", body), 404, "NOT_FOUND")


def test_a_submitted_job_shows_what_was_asked_for(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    made = send(client, "POST", "/jobs", {**GOOD, "interval_s": 5, "env": {"A": "1"}})
    assert made.status_code == 201
    for name in (made.json()["id"], made.json()["number"]):
        seen = send(client, "GET", f"/jobs/{name}").json()
        assert (seen["state"], seen["owner"], seen["pods"], seen["interval_s"]) == ("queued", "alice", 2, 5)
        assert seen["last_generation"] is None
        assert seen["resuming"] is None


def test_the_same_key_submits_once_and_another_body_with_it_is_refused(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    first = send(client, "POST", "/jobs", GOOD, **{"Idempotency-Key": "k1"}).json()
    again = send(client, "POST", "/jobs", GOOD, **{"Idempotency-Key": "k1"}).json()
    assert first["id"] == again["id"]
    assert Job.objects.count() == 1
    problem(send(client, "POST", "/jobs", {**GOOD, "pods": 1}, **{"Idempotency-Key": "k1"}), 409, "CONFLICT")


def test_a_bulk_submit_is_all_or_nothing(nodes: Nodes, alice: User, rest: Rest) -> None:
    problem(send(rest(alice), "POST", "/jobs/bulk", [GOOD, {**GOOD, "pods": 0}]), 422, "INVALID")
    assert not Job.objects.exists()
    assert len(send(rest(alice), "POST", "/jobs/bulk", [GOOD, GOOD]).json()["items"]) == 2


def test_pages_follow_each_other_without_gap(nodes: Nodes, alice: User, rest: Rest) -> None:
    client = rest(alice)
    numbers = [send(client, "POST", "/jobs", GOOD).json()["number"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = send(client, "GET", f"/jobs?limit=2{'&cursor=' + cursor if cursor else ''}").json()
        seen += [job["number"] for job in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == numbers[::-1]
    problem(send(client, "GET", "/jobs?cursor=%00%00"), 422, "INVALID")
    problem(send(client, "GET", "/jobs?limit=100000"), 422, "INVALID")
    problem(send(client, "GET", "/jobs?state=nonsense"), 422, "INVALID", "is not one of")


def test_generations_over_rest(nodes: Nodes, alice: User, rest: Rest) -> None:
    job, client = nodes.run_job(alice), rest(alice)
    taken = send(client, "POST", f"/jobs/{job.number}/generations", {})
    assert taken.status_code == 202
    problem(send(client, "POST", f"/jobs/{job.number}/generations", {}), 409, "CONFLICT", "one at a time")
    nodes.capture(Generation.objects.get(job=job))
    seen = send(client, "GET", f"/jobs/{job.number}/generations").json()["items"]
    assert [(g["number"], g["state"], g["replicas"]) for g in seen] == [(1, "complete", 2)]
    assert send(client, "PATCH", f"/jobs/{job.number}/generations/1", {"pinned": True}).json()["pinned"] is True
    problem(send(client, "DELETE", f"/jobs/{job.number}/generations/1"), 409, "CONFLICT", "pinned")
    problem(send(client, "GET", f"/jobs/{job.number}/generations/7"), 404, "NOT_FOUND")


def test_a_rollback_to_what_is_not_complete_or_not_there_is_refused(nodes: Nodes, alice: User, rest: Rest) -> None:
    job, client = nodes.run_job(alice), rest(alice)
    generation = nodes.generation(job)
    path = f"/jobs/{job.number}/rollback"
    problem(send(client, "POST", path, {"generation": 99}), 404, "NOT_FOUND")
    for state in ("failed", "deleted"):
        Generation.objects.filter(pk=generation.pk).update(state=state)
        problem(send(client, "POST", path, {"generation": 1}), 409, "CONFLICT", f"is {state}, not complete")


def test_the_dry_run_of_a_rollback_says_the_plan_and_the_real_one_begins(nodes: Nodes, alice: User, rest: Rest) -> None:
    job, client = nodes.run_job(alice), rest(alice)
    nodes.generation(job)
    body = {"generation": 1, "placement": ["node2", "node3", "node1"]}
    plan = send(client, "POST", f"/jobs/{job.number}/rollback", {**body, "dry_run": True})
    assert plan.status_code == 200
    assert plan.json()["placement"] == {"0": "node2", "1": "node3", "2": "node1"}
    begun = send(client, "POST", f"/jobs/{job.number}/rollback", body)
    assert begun.status_code == 202
    assert send(client, "GET", f"/jobs/{job.number}").json()["resuming"]["generation"] == 1
    problem(send(client, "POST", f"/jobs/{job.number}/rollback", body), 409, "CONFLICT", "on its way")


def test_events_resume_after_the_last_one_seen_and_show_only_ones_own(nodes: Nodes, alice: User, bob: User, rest: Rest) -> None:
    job, client = nodes.run_job(alice), rest(alice)
    seen = send(client, "GET", "/events?stream=0").json()["items"]
    assert next(e["kind"] for e in seen if e["job"] == str(job.pk)) == "job.queued"
    middle = seen[len(seen) // 2]["id"]
    rest_of_it = send(client, "GET", "/events?stream=0", **{"Last-Event-ID": str(middle)}).json()["items"]
    assert [e["id"] for e in rest_of_it] == [e["id"] for e in seen if e["id"] > middle]
    assert not [e for e in send(rest(bob), "GET", "/events?stream=0").json()["items"] if e["job"]]
    problem(send(client, "GET", "/events?stream=0", **{"Last-Event-ID": "x"}), 422, "INVALID")


def test_a_node_joins_with_a_good_token_only(nodes: Nodes, db: None) -> None:
    body = {"name": "node9", "address": "10.0.0.9", "store_url": "http://10.0.0.9:7800", "cores": 2, "mem_bytes": GIB}
    problem(send(Client(), "POST", "/nodes/join", {**body, "token": "cosn_wrong"}), 401, "UNAUTHENTICATED")
    from nodes.services import make_join_token

    row, token = make_join_token()
    problem(send(Client(), "POST", "/nodes/join", {**body, "token": token, "name": "../x"}), 422, "INVALID", "name")
    problem(send(Client(), "POST", "/nodes/join", {**body, "token": token, "cores": 0}), 422, "INVALID", "cores")
    JoinToken.objects.filter(pk=row.pk).update(expires_at=row.created_at)
    problem(send(Client(), "POST", "/nodes/join", {**body, "token": token}), 401, "UNAUTHENTICATED", "expired")
    _, good = make_join_token()
    answer = send(Client(), "POST", "/nodes/join", {**body, "token": good}).json()
    assert answer["secret"] == Node.objects.get(name="node9").secret


def test_files_travel_from_submit_to_node_and_back(nodes: Nodes, alice: User, bob: User, rest: Rest) -> None:
    client = rest(alice)
    files = [{"path": "in.txt", "data": base64.b64encode(b"input").decode(), "executable": True}]
    number = send(client, "POST", "/jobs", {**GOOD, "pods": 1, "files": files, "hold": True}).json()["number"]
    put = client.put(f"{API}/jobs/{number}/files/more/data.bin", b"\x00\x01", content_type="application/octet-stream")
    assert put.json()["size"] == 2
    send(client, "POST", f"/jobs/{number}/release", {})
    nodes.tick()
    row = nodes.asked("start_pod")[0]
    assert [f["path"] for f in row.body["files"]] == ["in.txt", "more/data.bin"]
    node, url = row.node, row.body["files"][0]["url"]
    got = Client().get(url, headers=sign_request(node.name, node.secret, "GET", url))
    assert b"".join(got.streaming_content) == b"input"  # type: ignore[attr-defined]
    problem(Client().get(url), 401, "UNAUTHENTICATED")
    other = Node.objects.exclude(pk=node.pk)[0]
    problem(Client().get(url, headers=sign_request(other.name, other.secret, "GET", url)), 404, "NOT_FOUND")

    data, digest = b"result\n", hashlib.sha256(b"result\n").hexdigest()
    path = f"{API}/agent/files/{row.body['run']}/0/out/r.txt"
    wrong = sign_request(node.name, node.secret, "PUT", path, content_sha256=hashlib.sha256(b"else").hexdigest())
    problem(Client().put(path, data, headers=wrong), 422, "INVALID", "not what was announced")
    signed = sign_request(node.name, node.secret, "PUT", path, content_sha256=digest)
    assert Client().put(path, data, headers=signed).status_code == 200
    listed = send(client, "GET", f"/jobs/{number}/files").json()["items"]
    assert [(f["path"], f["sha256"], f["uploaded"]) for f in listed] == [("out/r.txt", digest, True)]
    assert b"".join(client.get(f"{API}/jobs/{number}/files/out/r.txt").streaming_content) == data  # type: ignore[attr-defined]
    problem(rest(bob).get(f"{API}/jobs/{number}/files/out/r.txt"), 404, "NOT_FOUND")


def test_the_description_of_the_api_is_served(db: None, alice: User, rest: Rest) -> None:
    found = rest(alice).get(API + "/openapi.json").json()
    for path in ("/jobs", "/jobs/{job_id}", "/jobs/{job_id}/rollback", "/nodes/join", "/events", "/me"):
        assert API + path in found["paths"]
    assert {"get", "delete"} <= found["paths"][API + "/jobs/{job_id}"].keys()


def test_the_session_of_the_console_works_and_needs_its_csrf_token(nodes: Nodes, alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(API + "/me").json()["name"] == "alice"
    refused = client.post(API + "/jobs", json.dumps(GOOD), content_type="application/json")
    assert refused.status_code == 403
