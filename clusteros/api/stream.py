"""REST: the stream of events (server-sent events), resumable with Last-Event-ID.

The stream reads the event log, so a client that comes back misses nothing; with `Accept: application/json` (or
?stream=0) the same as a page.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router

from clusteros.core.connections import refresh_connections
from clusteros.core.events import as_json, events_after, newest_id
from clusteros.core.problems import invalid
from jobs.schemas import Events
from jobs.services import find_job

router = Router(tags=["events"])
STREAM = {"responses": {200: {"description": "the stream, or a page of it", "content": {
    "application/json": {"schema": {"$ref": "#/components/schemas/Events"}},
    "text/event-stream": {"schema": {"type": "string"}, "example": "id: 7\nevent: job.running\ndata: {}\n\n"},
}}}}  # fmt: skip
POLL_S = 0.4
KEEPALIVE_S = 15.0
MAX_STREAM_S = 3600.0


@router.get("/events", response=Events, openapi_extra=STREAM)
def events(
    request: HttpRequest, after: int | None = None, job: str | None = None, stream: int = 1, limit: int = 200
) -> Any:
    """Events after an id (`after`, or the header Last-Event-ID; default: from now on)."""
    owner_id = None if request.user.is_staff else request.user.pk  # type: ignore[union-attr]
    job_id = find_job(request.user, job).pk if job else None
    start = _start(request, after, streaming=bool(stream))
    if not stream or "application/json" in request.headers.get("Accept", ""):
        if not 1 <= limit <= 1000:
            raise invalid("limit", "between 1 and 1000")
        found = events_after(start, owner_id=owner_id, job=job_id, limit=limit)
        return {"items": [as_json(event) for event in found], "next": found[-1].id if found else start}
    response = StreamingHttpResponse(_stream(start, owner_id, job_id), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


def _start(request: HttpRequest, after: int | None, *, streaming: bool) -> int:
    header = request.headers.get("Last-Event-ID", "")
    if header:
        if not header.isdecimal() or len(header) > 18:
            raise invalid("Last-Event-ID", "not the id of an event")
        return int(header)
    if after is not None:
        return max(0, min(after, 1 << 62))
    return newest_id() if streaming else 0


async def _stream(last: int, owner_id: int | None, job_id: Any) -> AsyncIterator[bytes]:
    begun = spoken = time.monotonic()
    yield b"retry: 1000\n\n"
    while time.monotonic() - begun < MAX_STREAM_S:
        found = await sync_to_async(_read)(last, owner_id, job_id)
        for event in found:
            last = event["id"]
            yield f"id: {last}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n".encode()
        if found:
            spoken = time.monotonic()
        elif time.monotonic() - spoken > KEEPALIVE_S:
            spoken = time.monotonic()
            yield b": still here\n\n"
        await asyncio.sleep(POLL_S)


def _read(last: int, owner_id: int | None, job_id: Any) -> list[dict[str, Any]]:
    try:
        return [as_json(event) for event in events_after(last, owner_id=owner_id, job=job_id)]
    finally:
        refresh_connections()
