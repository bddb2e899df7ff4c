"""The event log read on and on, for both kinds of stream (server-sent events and WebSocket): the same events with the same ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async

from clusteros.core.connections import refresh_connections
from clusteros.core.events import as_json, events_after, newest_id
from clusteros.core.problems import invalid
from jobs.services import find_job

POLL_S = 0.25
MAX_STREAM_S = 3600.0


@dataclass(frozen=True)
class Wish:
    """Whose events, of which job (None: of all), after which id."""

    owner_id: int | None
    job: Any
    after: int


def wish_of(user: Any, after: Any, job: str | None, *, default: int | None = None) -> Wish:
    """Problem INVALID or NOT_FOUND for what cannot be wished; `default` None: from now on."""
    owner_id = None if user.is_staff else user.pk
    return Wish(owner_id, find_job(user, str(job)).pk if job else None, _start(after, default))


def _start(after: Any, default: int | None) -> int:
    if after is None or after == "":
        return newest_id() if default is None else default
    text = str(after)
    if isinstance(after, bool) or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise invalid("after", "not the id of an event")
    return int(text)


def read(wish: Wish, after: int, limit: int = 200) -> list[dict[str, Any]]:
    return [as_json(event) for event in events_after(after, owner_id=wish.owner_id, job=wish.job, limit=limit)]


async def follow(wish: Wish) -> AsyncIterator[list[dict[str, Any]]]:
    """What has come, again and again (often nothing), for an hour: then the client goes on after the last id."""
    last, begun = wish.after, time.monotonic()
    while time.monotonic() - begun < MAX_STREAM_S:
        found = await sync_to_async(_read_apart)(wish, last)
        last = found[-1]["id"] if found else last
        yield found
        if not found:
            await asyncio.sleep(POLL_S)


def _read_apart(wish: Wish, after: int) -> list[dict[str, Any]]:
    try:
        return read(wish, after)
    finally:
        refresh_connections()
