"""REST: the stream of events (server-sent events), resumable with Last-Event-ID; the same over a WebSocket is socket.py.

The stream reads the event log, so a client that comes back misses nothing; with `Accept: application/json` (or
?stream=0) the same as a page.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router

from clusteros.api.following import Wish, follow, read, wish_of
from clusteros.core.problems import invalid
from jobs.schemas import Events

router = Router(tags=["events"])
SOCKET_WORDS = """The same events, with the same ids, come over a **WebSocket** at this address (`ws://` or `wss://`), each as one
text message that holds what `data` holds in the stream: `after` and `job` as below, the token in `Authorization`; a client that
cannot send headers (a browser) begins with one message instead: `{"token": "…", "after": 7, "job": "12"}`. A refusal is the
message `{"problem": {…}}`, then the close code 4000 + its status (4401: no or no longer a good token). After an hour the socket
closes with 1001: go on with `after` the last id."""
SOCKET = {
    "url": "/api/v1/events",
    "query": {"after": "integer, the id of the last event that is known; from now on without it", "job": "a job's number or id"},
    "first_message": {"token": "for clients without headers", "after": "as in the query", "job": "as in the query"},
    "messages": {"$ref": "#/components/schemas/EventOut"},
}
STREAM = {"x-websocket": SOCKET, "responses": {200: {"description": "the stream, or a page of it", "content": {
    "application/json": {"schema": {"$ref": "#/components/schemas/Events"}},
    "text/event-stream": {"schema": {"type": "string"}, "example": "id: 7\nevent: job.running\ndata: {}\n\n"},
}}}}  # fmt: skip
KEEPALIVE_S = 15.0


@router.get("/events", response=Events, openapi_extra=STREAM, description=f"Events after an id (`after`, or the header "
            f"Last-Event-ID; default: from now on), as server-sent events or, with `stream=0`, a page.\n\n{SOCKET_WORDS}")  # fmt: skip
def events(
    request: HttpRequest, after: int | None = None, job: str | None = None, stream: int = 1, limit: int = 200
) -> Any:
    wish = wish_of(request.user, _known(request, after), job, default=None if stream else 0)
    if not stream or "application/json" in request.headers.get("Accept", ""):
        if not 1 <= limit <= 1000:
            raise invalid("limit", "between 1 and 1000")
        found = read(wish, wish.after, limit)
        return {"items": found, "next": found[-1]["id"] if found else wish.after}
    response = StreamingHttpResponse(_stream(wish), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


def _known(request: HttpRequest, after: int | None) -> int | str | None:
    header = request.headers.get("Last-Event-ID", "")
    if header and (not header.isdecimal() or len(header) > 18):
        raise invalid("Last-Event-ID", "not the id of an event")
    return header or (None if after is None else max(0, min(after, 10**18 - 1)))


async def _stream(wish: Wish) -> AsyncIterator[bytes]:
    spoken = time.monotonic()
    yield b"retry: 1000\n\n"
    async for found in follow(wish):
        for event in found:
            yield f"id: {event['id']}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n".encode()
        if found:
            spoken = time.monotonic()
        elif time.monotonic() - spoken > KEEPALIVE_S:
            spoken = time.monotonic()
            yield b": still here\n\n"
