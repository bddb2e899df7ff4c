"""Waiting for the others of a cut, in Redis: sets that every participant writes again until it hears.

Nothing here is kept: an emptied Redis is filled again by the next poll, an unreachable one is asked again until the
deadline. Only the control side sets a verdict; who hears none before its deadline answers `abort`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

EXPIRE_S = 300
FAST_S, FAST_POLL_S, SLOW_POLL_S, RETRY_S = 1.0, 0.001, 0.01, 0.2


def connect(url: str) -> redis.Redis:
    """A client of its own for barriers: short timeouts, so that a deadline can be kept."""
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, health_check_interval=0)


class Barrier:
    """One participant of one cut (`cut:GENERATION:EPOCH:`) or restore (`restore:RUN:EPOCH:`)."""

    def __init__(
        self, client: redis.Redis, prefix: str, member: int, deadline: float, given_up: Callable[[], bool] = lambda: False
    ) -> None:
        """`deadline` on the monotonic clock; `given_up` is asked at every poll: the pod is to end, nobody need wait."""
        self._client, self._prefix, self._member, self._deadline = client, prefix, member, deadline
        self._given_up, self._started = given_up, time.monotonic()

    def all_in(self, name: str, size: int) -> bool:
        """Enter the set and wait until `size` are in it: True. False on the verdict `abort` or past the deadline."""
        self._started = time.monotonic()
        while (left := self._poll(name)) is not None:
            count, verdict = left
            if verdict == b"abort":
                return False
            if count >= size:
                return True
        return False

    def verdict(self, name: str) -> bool:
        """Enter the set and wait for the verdict: True for `go`; False for `abort` or past the deadline."""
        self._started = time.monotonic()
        while (left := self._poll(name)) is not None:
            if left[1] in (b"go", b"abort"):
                return left[1] == b"go"
        return False

    def _poll(self, name: str) -> tuple[int, bytes | None] | None:
        """Write again and look, then wait a little; None past the deadline."""
        while time.monotonic() < self._deadline and not self._given_up():
            try:
                answer = self._ask(name)
            except redis.RedisError:
                time.sleep(RETRY_S)
                continue
            time.sleep(FAST_POLL_S if time.monotonic() - self._started < FAST_S else SLOW_POLL_S)
            return answer
        return None

    def _ask(self, name: str) -> tuple[int, bytes | None]:
        key = self._prefix + name
        pipe: Any = self._client.pipeline(transaction=False)
        pipe.sadd(key, self._member).expire(key, EXPIRE_S).scard(key).get(self._prefix + "verdict")
        _, _, count, verdict = pipe.execute()
        return int(count), verdict
