"""The barriers of cuts and restores: sets in Redis that pods write into, and a verdict that they wait for.

Owns the keys of docs/protocol.md ("The cut in Redis") and the watcher: one thread per control worker that looks at all
barriers under way, when a pod rings or some milliseconds have passed. Nothing here must last: pods write again until they hear, the
decision is in PostgreSQL before the verdict is set, and the clock repeats verdicts, so that an emptied Redis or a killed worker costs a
moment only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
from django.db import connection

from clusteros.core.connections import refresh_connections
from clusteros.environment import environment

LOG = logging.getLogger(__name__)
KEY_LIFE_S = 300
BELL_S = 0.02
LOOK_AT_RECORD_S = 0.25


@dataclass
class Barrier:
    """`members` pods write themselves into `prefix`+`name`; `decide(wish)` writes the decision and gives what stands;
    `look()` gives a decision that was written elsewhere, or None."""

    prefix: str
    name: str
    members: int
    deadline: float
    decide: Callable[[str], str]
    look: Callable[[], str | None]
    looked_at: float = field(default=0.0)
    all_in: float = field(default=0.0)


def cut_prefix(generation_id: Any, epoch: int) -> str:
    return f"cut:{generation_id}:{epoch}:"


def restore_prefix(run_id: Any, epoch: int) -> str:
    return f"restore:{run_id}:{epoch}:"


def client() -> redis.Redis:
    return redis.Redis.from_url(environment().redis_url, socket_timeout=5, socket_connect_timeout=5)


def set_verdict(store: redis.Redis, prefix: str, verdict: str, members: int = 0, when: dict[str, float] | None = None) -> None:
    """Set it, and ring for as many as wait; `when` (monotonic seconds) stays for whoever looks where a pause goes."""
    pipeline: Any = store.pipeline(transaction=False)
    pipeline.set(prefix + "verdict", verdict, ex=KEY_LIFE_S)
    if members:
        bell = prefix + "verdict:bell"
        pipeline.lpush(bell, *([1] * members)).expire(bell, KEY_LIFE_S)
    if when:
        pipeline.hset(prefix + "timeline", mapping=when).expire(prefix + "timeline", KEY_LIFE_S)
    pipeline.execute()


class Watcher:
    """Polls the barriers that were given to it until each is decided."""

    def __init__(self) -> None:
        self._barriers: dict[str, Barrier] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, barrier: Barrier) -> bool:
        """False when this barrier is watched already."""
        with self._lock:
            if barrier.prefix in self._barriers:
                return False
            self._barriers[barrier.prefix] = barrier
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="barriers", daemon=True)
                self._thread.start()
        return True

    def _watch(self) -> None:
        store = client()
        while barriers := self._current():
            try:
                self._round(store, barriers)
                store.blpop([barrier.prefix + "came" for barrier in barriers], timeout=BELL_S)
            except Exception as error:  # Redis or PostgreSQL away: the clock starts a new watch if this one ends
                LOG.warning("the barriers cannot be watched at this moment: %s", error)
                refresh_connections()
                time.sleep(0.2)

    def _current(self) -> list[Barrier]:
        """The barriers under way; with none left the thread ends, under the lock, so that `add` makes a new one."""
        with self._lock:
            if not self._barriers:
                self._thread = None
            return list(self._barriers.values())

    def _round(self, store: redis.Redis, barriers: list[Barrier]) -> None:
        """Look once at each."""
        pipeline = store.pipeline(transaction=False)
        for barrier in barriers:
            pipeline.scard(barrier.prefix + barrier.name)
        counts = pipeline.execute()
        for barrier, count in zip(barriers, counts, strict=True):
            verdict = self._judge(barrier, int(count))
            if verdict is not None:
                when = {"all_in": barrier.all_in, "decided": time.monotonic()}
                set_verdict(store, barrier.prefix, verdict, barrier.members, when)
                with self._lock:
                    self._barriers.pop(barrier.prefix, None)

    def _judge(self, barrier: Barrier, count: int) -> str | None:
        now = time.monotonic()
        if count >= barrier.members:
            barrier.all_in = now
            return _closing(lambda: barrier.decide("go"))
        if now > barrier.deadline:
            return _closing(lambda: barrier.decide("abort"))
        if now - barrier.looked_at > LOOK_AT_RECORD_S:
            barrier.looked_at = now
            return _closing(barrier.look)
        return None


def _closing(act: Callable[[], Any]) -> Any:
    """The connection goes back to the pool: this thread lives long."""
    try:
        return act()
    finally:
        if not connection.in_atomic_block:
            connection.close()


WATCHER = Watcher()
