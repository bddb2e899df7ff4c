"""Who may see and do what at the console, without a browser; and that pages cost a fixed number of queries."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from clusteros.accounts.services import ensure_user
from clusteros.console.consumers import NOT_LOGGED_IN, LiveConsumer, topics_of
from jobs.models import Job
from jobs.services import submit_job
from nodes.models import Node
from tests.console.story import Story
from tests.control.cluster import Nodes, request

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other(transactional_db: None) -> User:
    return ensure_user("other", password="other-password")


def signed_in(user: User) -> Client:
    client = Client(enforce_csrf_checks=False)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_every_page_asks_for_a_login_first(demo: User) -> None:
    for path in ("/", "/jobs/", "/jobs/new/", "/jobs/1/", "/jobs/1/log/", "/nodes/", "/nodes/n1/", "/tokens/", "/part/nodes/"):
        answer = Client().get(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/login/"), path


def test_a_button_wants_a_csrf_token_and_a_post(demo: User, nodes: Nodes) -> None:
    job = submit_job(demo, request())
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(demo, backend="django.contrib.auth.backends.ModelBackend")
    assert careful.post(f"/jobs/{job.number}/do/cancel/").status_code == 403
    assert signed_in(demo).get(f"/jobs/{job.number}/do/cancel/").status_code == 405
    job.refresh_from_db()
    assert job.state == "queued"


def test_the_job_of_another_does_not_exist(demo: User, other: User, admin: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    number = story.job.number
    client = signed_in(other)
    for path in (
        "",
        "part/head/",
        "part/tree/",
        "log/",
        "log/text/",
        "cancel/",
        "files/0/x",
        "generations/1/rollback/",
        "generations/1/delete/",
        "generations/1/export/",
        "store/",
    ):
        assert client.get(f"/jobs/{number}/{path}").status_code == 404, path
    for path in ("do/cancel/", "do/hold/", "checkpoint/", "generations/1/rollback/now/", "generations/1/pin/", "generations/1/delete/now/"):
        answer = client.post(f"/jobs/{number}/{path}", headers={"HX-Request": "true"})
        assert answer.status_code == 404, path
    assert "heat-city" not in client.get("/jobs/?state=").content.decode()
    assert "heat-city" not in client.get("/").content.decode(), "not on the nodes' tiles either"
    story.job.refresh_from_db()
    assert story.job.state == "running"
    assert signed_in(admin).get(f"/jobs/{number}/").status_code == 200


@pytest.mark.parametrize("path", ["/nodes/node1/drain/now/", "/nodes/node1/undrain/"])
def test_only_an_administrator_drains(demo: User, nodes: Nodes, path: str) -> None:
    answer = signed_in(demo).post(path, headers={"HX-Request": "true"})
    assert answer.status_code == 403
    assert b"only an administrator" in answer.content
    assert Node.objects.get(name="node1").state == "up"


def test_only_an_administrator_makes_join_tokens(demo: User) -> None:
    assert signed_in(demo).get("/nodes/join/").status_code == 403
    assert signed_in(demo).post("/nodes/join/").status_code == 403


@pytest.mark.parametrize(
    "path", ["/jobs/999999999999/", "/nodes/nowhere/", "/jobs/1/part/nonsense/", "/part/nonsense/", "/jobs/99999999999999999999999/"]
)
def test_what_is_not_there_is_a_404_with_words(demo: User, path: str) -> None:
    answer = signed_in(demo).get(path)
    assert answer.status_code == 404
    assert b"nothing here" in answer.content


@pytest.mark.parametrize("query", ["pod=x&after=-1", "pod=99999999999999999999", "after=zz&run=not-a-uuid", "stream=stdin", "at=%00"])
def test_a_bent_address_of_the_log_does_no_harm(demo: User, nodes: Nodes, query: str) -> None:
    story = Story(nodes, demo)
    story.start()
    assert signed_in(demo).get(f"/jobs/{story.job.number}/log/?{query}").status_code == 200


def test_a_refused_button_without_htmx_comes_back_to_the_page_with_words(demo: User, nodes: Nodes) -> None:
    job = submit_job(demo, request())
    answer = signed_in(demo).post(
        f"/jobs/{job.number}/checkpoint/", headers={"Referer": f"http://testserver/jobs/{job.number}/"}, follow=True
    )
    assert answer.redirect_chain == [(f"/jobs/{job.number}/", 302)]
    assert b"a generation can be taken of a running job" in answer.content


def test_a_refused_button_never_leads_to_another_site(demo: User, nodes: Nodes) -> None:
    job = submit_job(demo, request())
    answer = signed_in(demo).post(f"/jobs/{job.number}/checkpoint/", headers={"Referer": "http://elsewhere.example//evil"})
    assert answer["Location"] == "/"


def test_the_policy_forbids_inline_scripts_and_styles(demo: User) -> None:
    policy = signed_in(demo).get("/")["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_log_as_text_is_the_stream_as_it_was_written(demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.print("<b>one</b>\n")
    story.print("two\n")
    answer = signed_in(demo).get(f"/jobs/{story.job.number}/log/text/")
    assert answer["Content-Type"].startswith("text/plain")
    assert b"".join(answer.streaming_content) == b"<b>one</b>\ntwo\n"  # type: ignore[attr-defined]


def count(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200
    return len(queries)


def test_pages_cost_the_same_number_of_queries_however_much_there_is(admin: User, nodes: Nodes) -> None:
    story = Story(nodes, admin)
    story.start()
    story.generation()
    client, number = signed_in(admin), story.job.number
    pages = ("/", "/jobs/?state=", f"/jobs/{number}/", "/nodes/")
    before = {path: count(client, path) for path in pages}
    Story(nodes, admin).start()
    for _ in range(3):
        story.generation()
        submit_job(admin, request())
    assert {path: count(client, path) for path in pages} == before


def test_topics_name_what_changed() -> None:
    event = {"job_number": 7, "generation": 2, "node": "n1"}
    assert topics_of(event) == ["events", "jobs", "job-7", "generations-7", "nodes", "node-n1"]
    assert topics_of({"job_number": None, "generation": None, "node": ""}) == ["events"]


# ---- the WebSocket


def _socket(user: Any, query: str) -> ApplicationCommunicator:
    scope = {"type": "websocket", "path": "/ws/live/", "query_string": query.encode(), "headers": [], "user": user}
    return ApplicationCommunicator(LiveConsumer.as_asgi(), scope)


async def _listen(user: Any, query: str, messages: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """What a page of `user` hears when these messages are sent to these groups."""
    socket = _socket(user, query)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(5))["type"] == "websocket.accept"
    for group, message in messages:
        await get_channel_layer().group_send(group, message)
    heard = []
    while not await socket.receive_nothing(0.7):
        heard.append(json.loads((await socket.receive_output(5))["text"]))
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(5)
    return heard


def _event(owner: int | None, number: int | None) -> tuple[str, dict[str, Any]]:
    return "events", {"type": "cluster.event", "event": {"owner_id": owner, "job_number": number, "generation": None, "node": ""}}


def test_a_user_hears_of_own_jobs_and_an_administrator_of_all(demo: User, other: User, admin: User) -> None:
    sent = [_event(demo.pk, 1), _event(other.pk, 2), _event(None, None)]
    assert [each["topics"][-1] for each in asyncio.run(_listen(demo, "", sent))] == ["job-1", "events"]
    assert [each["topics"][-1] for each in asyncio.run(_listen(admin, "", sent))] == ["job-1", "job-2", "events"]


def test_only_topics_are_sent_never_what_happened(demo: User) -> None:
    group, message = _event(demo.pk, 1)
    message["event"]["words"] = "secret words"
    assert "secret" not in str(asyncio.run(_listen(demo, "", [(group, message)])))


def test_the_log_of_another_is_not_heard(demo: User, other: User, nodes: Nodes) -> None:
    job: Job = submit_job(demo, request())
    sent = [(f"log-{job.id}", {"type": "cluster.log", "log": {"text": "secret"}})]

    def heard(user: User, query: str) -> list[str]:
        """Log topics alone: what the submission said to the owner may arrive meanwhile."""
        return [topic for each in asyncio.run(_listen(user, query, sent)) for topic in each["topics"] if topic.startswith("log-")]

    assert heard(demo, f"job={job.number}") == [f"log-{job.number}"]
    assert heard(other, f"job={job.number}") == []
    assert heard(other, "job=%00abc&job=9") == []


def test_a_socket_without_login_is_closed_with_a_reason(transactional_db: None) -> None:
    async def knock() -> list[Any]:
        socket = _socket(AnonymousUser(), "")
        await socket.send_input({"type": "websocket.connect"})
        return [await socket.receive_output(5), await socket.receive_output(5)]

    accepted, closed = asyncio.run(knock())
    assert accepted["type"] == "websocket.accept"
    assert (closed["type"], closed["code"]) == ("websocket.close", NOT_LOGGED_IN)
