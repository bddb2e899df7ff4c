"""The client by itself: what it tries again and what it never does, pages, the stream of events, refusals."""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from clusteros.answers import KEPT
from clusteros.client import AsyncCluster, Cluster, ClusterError, parse_events

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr("clusteros.client.time.sleep", lambda seconds: None)
    return Cluster("http://cluster.test", "token", transport=httpx.MockTransport(handler))


class Server:
    """Fails `failures` times before it answers; keeps what it was asked."""

    def __init__(self, failures: int, status: int = 503) -> None:
        self.failures, self.status = failures, status
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if len(self.asked) <= self.failures:
            if self.status == 0:
                raise httpx.ConnectError("refused", request=request)
            return httpx.Response(self.status)
        return httpx.Response(200, json={"number": 1, "items": [], "next": None})


@pytest.mark.parametrize("status", [0, 502, 503, 504])
def test_what_is_only_read_is_tried_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    server = Server(2, status)
    client_of(server, monkeypatch).job("1")
    assert len(server.asked) == 3


def test_submit_is_tried_again_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(2, 0)
    client_of(server, monkeypatch).submit({"command": ["x"]})
    keys = {request.headers["Idempotency-Key"] for request in server.asked}
    assert (len(server.asked), len(keys)) == (3, 1)


def test_what_changes_something_without_a_key_is_never_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(1, 0)
    with pytest.raises(ClusterError) as refused:
        client_of(server, monkeypatch).rollback("1", 2)
    assert (refused.value.code.name, len(server.asked)) == ("BUSY", 1)


def test_a_server_that_never_comes_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(99, 503)
    with pytest.raises(ClusterError) as refused:
        client_of(server, monkeypatch).me()
    assert (refused.value.code.name, len(server.asked)) == ("BUSY", 4)


def test_pages_are_followed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        at = int(request.url.params.get("cursor", 0))
        return httpx.Response(200, json={"items": [{"number": at}, {"number": at + 1}], "next": str(at + 2) if at < 4 else None})

    client = client_of(handler, monkeypatch)
    assert [job["number"] for job in client.jobs()] == [0, 1, 2, 3, 4, 5]
    assert [job["number"] for job in client.jobs(limit=3)] == [0, 1, 2]


def test_a_problem_becomes_an_error_of_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = {"code": "NO_ROOM", "detail": "needs 9 cores on one node, the largest has 4", "status": 422}
    with pytest.raises(ClusterError, match="needs 9 cores") as refused:
        client_of(lambda request: httpx.Response(422, json=problem), monkeypatch).submit({})
    assert (refused.value.code.name, refused.value.status, refused.value.problem) == ("NO_ROOM", 422, problem)


@pytest.mark.parametrize(
    ("status", "code"), [(401, "UNAUTHENTICATED"), (403, "DENIED"), (404, "NOT_FOUND"), (500, "BUG"), (418, "PROTOCOL")]
)
def test_an_answer_that_is_no_problem_still_has_a_code(monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
    for content in (b"", b"<html>", b'["list"]', b'{"code": "NEVER HEARD OF"}'):
        with pytest.raises(ClusterError) as refused:
            client_of(lambda request, content=content: httpx.Response(status, content=content), monkeypatch).me()  # type: ignore[misc]
        assert refused.value.code.name == code


def test_an_answer_that_is_not_json_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="is this a ClusterOS server"):
        client_of(lambda request: httpx.Response(200, text="<html>hello</html>"), monkeypatch).me()


def test_names_in_addresses_cannot_leave_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(0)
    client_of(server, monkeypatch).node("../jobs?x=1")
    assert server.asked[0].url.raw_path == b"/api/v1/nodes/..%2Fjobs%3Fx%3D1"


def test_a_stream_of_events_is_read_line_by_line() -> None:
    lines = [
        "retry: 1000",
        "",
        ": still here",
        "",
        "id: 7",
        "event: job.running",
        f"data: {json.dumps({'kind': 'job.running'})}",
        "",
        "data: {",
        'data: "a": 1}',
        "",
    ]
    assert list(parse_events(iter(lines))) == [{"id": "7", "kind": "job.running"}, {"id": "7", "a": 1}]


# ---- the asynchronous client: the same rules


def async_client_of(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> AsyncCluster:
    async def no_sleep(seconds: float) -> None:
        return None

    monkeypatch.setattr("clusteros.aclient.asyncio.sleep", no_sleep)
    return AsyncCluster("http://cluster.test", "token", transport=httpx.MockTransport(handler))


def test_the_asynchronous_client_tries_again_what_may_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(server: Server) -> None:
        async with async_client_of(server, monkeypatch) as cluster:
            await cluster.submit({"command": ["x"]})
            await cluster.job("1")

    server = Server(2, 0)
    asyncio.run(use(server))
    keys = [request.headers.get("Idempotency-Key") for request in server.asked]
    assert (len(keys), len(set(keys[:3])), keys[3]) == (4, 1, None)


def test_the_asynchronous_client_never_sends_a_change_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(1, 0)
    with pytest.raises(ClusterError) as refused:
        asyncio.run(async_client_of(server, monkeypatch).rollback("1", 2))
    assert (refused.value.code.name, len(server.asked)) == ("BUSY", 1)


def test_the_asynchronous_client_follows_pages_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, text='id: 7\ndata: {"kind": "job.running"}\n\n')
        at = int(request.url.params.get("cursor", 0))
        return httpx.Response(200, json={"items": [{"number": at}], "next": str(at + 1) if at < 3 else None})

    async def use() -> tuple[list[int], Any]:
        async with async_client_of(handler, monkeypatch) as cluster:
            numbers = [job["number"] async for job in cluster.jobs()]
            return numbers, await anext(aiter(cluster.events()))

    assert asyncio.run(use()) == ([0, 1, 2, 3], {"id": "7", "kind": "job.running"})


def test_who_is_told_to_come_later_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    answers = iter([httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(200, json={"name": "x"})])
    cluster = Cluster("http://cluster.test", "token", transport=httpx.MockTransport(lambda request: next(answers)))
    monkeypatch.setattr("clusteros.client.time.sleep", waited.append)
    assert cluster.me() == {"name": "x"}
    assert waited == [7.0]


def verbs_of(kind: type) -> dict[str, list[tuple[str, Any]]]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {
        name: [(each.name, each.default) for each in inspect.signature(verb).parameters.values()]
        for name, verb in found
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_verbs() -> None:
    assert verbs_of(AsyncCluster) == verbs_of(Cluster)


def test_a_file_that_breaks_off_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"half"
            raise httpx.RemoteProtocolError("peer closed connection")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            raise httpx.RemoteProtocolError("peer closed connection")

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/jobs/1/generations/2/export"
        return httpx.Response(200, stream=Broken())

    async def use() -> None:
        async with async_client_of(answer, monkeypatch) as cluster:
            async for _ in cluster.export("1", 2):
                pass

    with pytest.raises(ClusterError, match="broke off"):
        asyncio.run(use())
    with Cluster("http://x", "t", transport=httpx.MockTransport(answer)) as cluster, pytest.raises(ClusterError, match="broke off"):
        list(cluster.export("1", 2))


def answer_once(listener: socket.socket) -> None:
    """A server that closes a connection when a second request comes on it, as one does that had just given it up."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            connection.recv(65536)


def test_a_connection_that_waited_long_is_not_used_for_what_is_never_sent_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_once, args=(listener,), daemon=True).start()
        with Cluster(f"http://127.0.0.1:{listener.getsockname()[1]}", "token") as cluster:
            assert cluster.call("GET", "me") == {}
            time.sleep((KEPT.keepalive_expiry or 0) + 0.1)
            assert cluster.call("POST", "jobs/1/generations", body={}) == {}
        listener.shutdown(socket.SHUT_RDWR)
