"""How many requests a user may make: counted in Redis per user and minute, given up silently while Redis is away.

Who exceeds the limit is told 429 and when to come again. Nodes are not counted: they speak by their own signature.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import lru_cache

import redis

from clusteros.core.problems import Problem
from clusteros.environment import environment

LOG = logging.getLogger(__name__)
WINDOW_S = 60
PAUSE_S = 5.0
_silent_until = 0.0


@dataclass(frozen=True)
class Rate:
    limit: int
    left: int
    resets_s: int


@lru_cache
def _store() -> redis.Redis:
    return redis.Redis.from_url(environment().redis_url, socket_timeout=0.3, socket_connect_timeout=0.3)


def count_request(user_id: int) -> Rate | None:
    """Count one more. Problem BUSY (429) above the limit; None when nobody counts now."""
    global _silent_until
    limit = environment().requests_per_minute
    if not limit or time.monotonic() < _silent_until:
        return None
    now = int(time.time())
    resets_s = WINDOW_S - now % WINDOW_S
    try:
        used = _count(f"rate:{user_id}:{now // WINDOW_S}")
    except redis.RedisError as fault:
        _silent_until = time.monotonic() + PAUSE_S
        LOG.info("requests are not counted now: %s", fault)
        return None
    if used > limit:
        words = f"more than {limit} requests in this minute: come again in {resets_s} s"
        raise Problem("BUSY", words, status=429, retry_after_s=resets_s)
    return Rate(limit, limit - used, resets_s)


def _count(key: str) -> int:
    with _store().pipeline(transaction=False) as pipe:
        pipe.incr(key)
        pipe.expire(key, 2 * WINDOW_S)
        return int(pipe.execute()[0])
