"""Waiting for the others of a cut, in Redis: sets that every participant writes again until it hears.

Nothing here is kept: an emptied Redis is filled again by the next look, an unreachable one is asked again until the
deadline. Only the control side sets a verdict; who hears none before its deadline answers `abort`.

Between looks everybody waits for a *bell*, a list into which whoever changes something puts one token for each who waits:
asking again and again would take processor time from the engines, while a job stands still. A lost token costs one wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

EXPIRE_S = 300
BELL_S, RETRY_S = 0.02, 0.2
LONG_S = 1.0
ALL_IN = b"in"
ENTER = """
local fresh = redis.call('SADD', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
local count = redis.call('SCARD', KEYS[1])
if fresh == 1 and count == tonumber(ARGV[3]) then
    for _ = 2, count do redis.call('LPUSH', KEYS[2], ARGV[4]) end
    redis.call('EXPIRE', KEYS[2], ARGV[2])
end
if ARGV[5] == '1' then
    redis.call('LPUSH', KEYS[4], '1')
    redis.call('EXPIRE', KEYS[4], ARGV[2])
end
return {count, redis.call('GET', KEYS[3])}
"""


def connect(url: str) -> redis.Redis:
    """A client of its own for barriers: short timeouts, so that a deadline can be kept."""
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, health_check_interval=0)


class Barrier:
    """One participant of one cut (`cut:GENERATION:EPOCH:`) or restore (`restore:RUN:EPOCH:`)."""

    def __init__(
        self, client: redis.Redis, prefix: str, member: int, deadline: float, given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """`deadline` on the monotonic clock; `given_up` is asked at every look: the pod is to end, nobody need wait."""
        self._client, self._prefix, self._member, self._deadline = client, prefix, member, deadline
        self._given_up = given_up

    def all_in(self, name: str, size: int, long: Callable[[], object] = lambda: None, bell: str = "") -> bool:
        """Enter the set and wait until `size` are in it: True. False on the verdict `abort` or past the deadline.

        `long` is called once if it takes long; `bell` is rung by entering. Who is alone does not wait, and enters nothing."""
        if size == 1:
            return not self._given_up()
        late = _Late(long)
        while (left := self._look(name, bell, size)) is not None:
            bell = ""
            count, verdict = left
            if verdict == b"abort":
                return False
            if count >= size or verdict == b"go":  # a set that was emptied after all were in it
                return True
            late.look()
            if self._wait(name) == ALL_IN:
                return True
        return False

    def enter(self, name: str, bell: str) -> None:
        """Enter the set, for the record: nobody waits for it, and nothing is lost where Redis is away."""
        with suppress(redis.RedisError):
            self._ask(name, bell)

    def verdict(self, name: str, long: Callable[[], object] = lambda: None) -> bool:
        """Enter the set and wait for the verdict: True for `go`; False for `abort` or past the deadline."""
        late, bell = _Late(long), "came"
        while (left := self._look(name, bell)) is not None:
            bell = ""
            if left[1] in (b"go", b"abort"):
                return left[1] == b"go"
            late.look()
            self._wait("verdict")
        return False

    def _look(self, name: str, bell: str = "", size: int = 0) -> tuple[int, bytes | None] | None:
        """Write again, ring and look; None past the deadline."""
        while time.monotonic() < self._deadline and not self._given_up():
            try:
                return self._ask(name, bell, size)
            except redis.RedisError:
                time.sleep(RETRY_S)
        return None

    def _ask(self, name: str, bell: str, size: int = 0) -> tuple[int, bytes | None]:
        """In one turn: the last of `size` rings for the others before it hears that it is the last."""
        keys = [self._prefix + key for key in (name, f"{name}:bell", "verdict", bell or name)]
        found: Any = self._client.eval(ENTER, len(keys), *keys, self._member, EXPIRE_S, size, ALL_IN, int(bool(bell)))
        return int(found[0]), found[1]

    def _wait(self, name: str) -> bytes | None:
        """The token that was taken."""
        with suppress(redis.RedisError):
            taken: Any = self._client.blpop([f"{self._prefix}{name}:bell"], timeout=BELL_S)
            return bytes(taken[1]) if taken else None
        return None


class _Late:
    """Calls `then` once, when LONG_S have passed."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then, self._at = then, time.monotonic() + LONG_S

    def look(self) -> None:
        if time.monotonic() > self._at:
            self._at = float("inf")
            self._then()
