"""REST: the stream of events over a WebSocket at /api/v1/events, for scripts and other sites' pages.

Who asks is proven by a token alone, in the header Authorization or in the first message: never by the console's session, so that no
foreign page can listen with somebody's cookie. Each event is one message; the client goes on with `after` its last id.
Invariant: what is sent stands in the event log, in the order of ids; a token that is revoked ends the stream within RECHECK_S.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from clusteros.accounts.services import check_token
from clusteros.api.following import Wish, follow, wish_of
from clusteros.core.connections import refresh_connections
from clusteros.core.problems import Problem
from clusteros.core.rates import count_request

FIRST_MESSAGE_S = 10.0
FIRST_MESSAGE_MAX_BYTES = 4096
RECHECK_S = 20.0
GOING_AWAY = 1001
CLOSE_CODES = 4000
"""The close code of a refusal is this and its HTTP status (RFC 6455 leaves 4000–4999 to applications)."""


class EventSocket(AsyncWebsocketConsumer):
    _work: asyncio.Task[None] | None = None
    _begun = False

    async def connect(self) -> None:
        await self.accept()
        asked = parse_qs(self.scope["query_string"].decode("ascii", "replace"))
        self._asked = {name: asked[name][-1] for name in ("after", "job") if name in asked}
        headers = dict(self.scope["headers"])
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if kind.lower() == "bearer":
            self._begin(token.strip(), self._asked)
        else:
            self._work = asyncio.create_task(self._give_up())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """The first message says who asks, where no header did; there is nothing else to be said."""
        if self._begun:
            return
        first = _parsed(text_data)
        if first is None:
            return await self._refuse(Problem("USAGE", 'the first message is an object: {"token": "…", "after": 7}'))
        if self._work is not None:
            self._work.cancel()
        self._begin(str(first.get("token") or ""), self._asked | {name: first[name] for name in ("after", "job") if name in first})

    async def disconnect(self, code: int) -> None:
        if self._work is not None:
            self._work.cancel()

    def _begin(self, token: str, asked: dict[str, Any]) -> None:
        self._begun = True
        self._work = asyncio.create_task(self._serve(token, asked))

    async def _give_up(self) -> None:
        await asyncio.sleep(FIRST_MESSAGE_S)
        await self._refuse(Problem("UNAUTHENTICATED", "send a token: in Authorization: Bearer …, or in the first message"))

    async def _serve(self, token: str, asked: dict[str, Any]) -> None:
        try:
            wish = await sync_to_async(_admit)(token, asked)
            await self._send_all(token, wish)
        except Problem as refusal:
            await self._refuse(refusal)
        else:
            await self.close(code=GOING_AWAY, reason="go on after the last id")

    async def _send_all(self, token: str, wish: Wish) -> None:
        checked = time.monotonic()
        async for found in follow(wish):
            for event in found:
                await self.send(text_data=json.dumps(event))
            if time.monotonic() - checked > RECHECK_S:
                await sync_to_async(_check)(token)
                checked = time.monotonic()

    async def _refuse(self, problem: Problem) -> None:
        said = problem.as_json()
        with suppress(RuntimeError):  # the other side went away
            await self.send(text_data=json.dumps({"problem": said}))
            await self.close(code=CLOSE_CODES + int(said["status"]), reason=problem.detail[:100])


def _parsed(text: str | None) -> dict[str, Any] | None:
    if text is None or len(text) > FIRST_MESSAGE_MAX_BYTES or "\\u0000" in text:
        return None
    try:
        first = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return first if isinstance(first, dict) else None


def _admit(token: str, asked: dict[str, Any]) -> Wish:
    """Problem says why not; counted as one request of the token's owner."""
    try:
        user = _check(token)
        count_request(user.pk)
        if "\0" in str(asked.get("job", "")):
            raise Problem("INVALID", "a NUL stands in it", field="job")
        return wish_of(user, asked.get("after"), asked.get("job"))
    finally:
        refresh_connections()


def _check(token: str) -> Any:
    row = check_token(token)
    if not {"read", "admin"} & set(row.scopes):
        raise Problem("DENIED", "this token has no scope read")
    return row.user
