"""The stream of events over a WebSocket: the same events and ids as server-sent events, a token as the only proof, and a clear
refusal for everything else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User

from clusteros.accounts.services import make_token, revoke_token
from clusteros.api import socket
from clusteros.asgi import application
from clusteros.core.events import record_event
from clusteros.core.models import Event
from jobs.models import Job
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = "2026-01-01T00:00:00Z"


def token_of(user: User, *scopes: str) -> str:
    return make_token(user, "socket", scopes=list(scopes) or ["read"], days=1)[1]


def connected(query: str = "", token: str = "", path: str = "/api/v1/events") -> ApplicationCommunicator:
    headers = [(b"host", b"testserver")] + ([(b"authorization", f"Bearer {token}".encode())] if token else [])
    scope = {"type": "websocket", "path": path, "query_string": query.encode(), "headers": headers, "subprotocols": []}
    return ApplicationCommunicator(application, scope)


async def talk(wire: ApplicationCommunicator, wanted: int, *, first: Any = None) -> list[Any]:
    """What is heard after the handshake: so many events, or what came before the close and its code."""
    await wire.send_input({"type": "websocket.connect"})
    assert (await wire.receive_output(5))["type"] == "websocket.accept"
    if first is not None:
        text = first if isinstance(first, str) else json.dumps(first)
        await wire.send_input({"type": "websocket.receive", "text": text})
    heard: list[Any] = []
    while len(heard) < wanted:
        message = await wire.receive_output(5)
        if message["type"] == "websocket.close":
            return [*heard, message["code"]]
        heard.append(json.loads(message["text"]))
    await wire.send_input({"type": "websocket.disconnect", "code": 1000})
    await wire.wait(5)
    return heard


def hear(wanted: int, query: str = "", token: str = "", *, first: Any = None) -> list[Any]:
    return asyncio.run(talk(connected(query, token), wanted, first=first))


@pytest.fixture
def noted(nodes: Nodes, alice: User) -> tuple[Job, int]:
    """A job of alice's, with three notes after an event that is known."""
    job = nodes.run_job(alice)
    last = Event.objects.order_by("-id").values_list("id", flat=True)[0]
    for number in range(3):
        record_event("job.noted", f"note {number}", **job.event_refs())
    Event.objects.update(at=LONG_AGO)
    return job, last


def words(heard: list[Any]) -> list[str]:
    return [event["words"] for event in heard]


def test_a_socket_goes_on_after_the_id_that_was_seen(noted: tuple[Job, int], alice: User) -> None:
    token = token_of(alice)
    first = hear(2, f"after={noted[1]}", token)
    assert words(first) == ["note 0", "note 1"]
    assert words(hear(1, first=None, query=f"after={first[-1]['id']}&job={noted[0].number}", token=token)) == ["note 2"]
    assert {"id", "at", "kind", "job_number"} <= first[0].keys()


def test_what_happens_later_comes_by_itself(noted: tuple[Job, int], alice: User) -> None:
    async def wait_for_it() -> list[Any]:
        wire = connected("", token_of_alice)
        heard = asyncio.create_task(talk(wire, 1))
        await asyncio.sleep(0.6)
        await asyncio.to_thread(record_event, "job.noted", "now", **refs)
        return await heard

    token_of_alice, refs = token_of(alice), noted[0].event_refs()
    assert words(asyncio.run(wait_for_it())) == ["now"]


def test_a_browser_says_its_token_in_the_first_message(noted: tuple[Job, int], alice: User) -> None:
    heard = hear(3, first={"token": token_of(alice), "after": noted[1]})
    assert words(heard) == ["note 0", "note 1", "note 2"]


def test_the_events_of_another_are_not_heard(noted: tuple[Job, int], bob: User, carol: User) -> None:
    problem, code = hear(2, f"job={noted[0].number}", token_of(bob))
    assert (problem["problem"]["code"], code) == ("NOT_FOUND", 4404)
    assert words(hear(1, f"after={noted[1]}", token_of(carol, "read", "admin"))) == ["note 0"]
    token = token_of(bob)
    record_event("node.noted", "everybody's", node="node1")
    Event.objects.update(at=LONG_AGO)
    heard = words(hear(3, f"after={noted[1]}", token))
    assert "everybody's" in heard
    assert not any(text.startswith("note ") for text in heard)


WRONG = (
    ("", "no JSON", 400),
    ("", "[1]", 400),
    ("", "x" * 5000, 400),
    ("", {"token": "", "after": 1}, 401),
    ("", {"token": "clt_nobodys"}, 401),
    ("after=-1", {}, 422),
    ("after=9999999999999999999", {}, 422),
    ("", {"after": [1]}, 422),
    ("", {"after": True}, 422),
    ("job=%00", {}, 422),
    ("job=nonsense", {}, 404),
)


def test_what_is_wrong_is_said_and_then_closed(alice: User) -> None:
    token = token_of(alice)
    for query, first, status in WRONG:
        said, code = hear(2, query, first={"token": token, **first} if isinstance(first, dict) else first)
        assert (said["problem"]["status"], code) == (status, 4000 + status), (query, first)


def test_who_may_not_read_is_refused(alice: User) -> None:
    said, code = hear(2, token=token_of(alice, "write"))
    assert (said["problem"]["code"], code) == ("DENIED", 4403)


def test_who_says_nothing_is_let_go(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "FIRST_MESSAGE_S", 0.1)
    said, code = hear(2)
    assert (said["problem"]["code"], code) == ("UNAUTHENTICATED", 4401)


def test_a_token_that_is_revoked_ends_the_stream(noted: tuple[Job, int], alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    row, token = make_token(alice, "short", scopes=["read"], days=1)

    async def revoked() -> list[Any]:
        heard = asyncio.create_task(talk(connected(f"after={noted[1]}", token), 9))
        await asyncio.sleep(0.6)
        await asyncio.to_thread(revoke_token, alice, row.pk)
        return await heard

    monkeypatch.setattr(socket, "RECHECK_S", 0.3)
    assert asyncio.run(revoked())[-1] == 4401


def test_other_addresses_and_other_sites_are_refused(db: None) -> None:
    async def denied(path: str) -> Any:
        wire = connected(path=path)
        await wire.send_input({"type": "websocket.connect"})
        return (await wire.receive_output(5))["type"]

    for path in ("/api/v1/nowhere", "/nowhere", "/ws/live/"):  # the last wants the console's own origin
        assert asyncio.run(denied(path)) == "websocket.close"


def test_the_document_says_how(alice: User, rest: Callable[..., Any]) -> None:
    said = rest(alice).get("/api/v1/openapi.json").json()["paths"]["/api/v1/events"]["get"]
    assert "WebSocket" in said["description"]
    assert said["x-websocket"]["url"] == "/api/v1/events"
