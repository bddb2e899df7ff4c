"""One leader among any number of schedulers, by a PostgreSQL advisory lock on a connection of its own.

Invariants: the lock goes with the connection, so a killed leader is followed within a tick; passes run only while the
connection answers. Even two leaders would do no harm: every pass takes row locks and may be run twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg

from clusteros.core.dispatch import WAKE_CHANNEL
from clusteros.environment import environment

LOG = logging.getLogger(__name__)
LEADER_LOCK = 0x636C7573746572
RETRY_S = 1.0
GATHER_S = 0.01
"""Wake-ups that come together make one tick."""


def lead(tick: Callable[[], None], stopping: Callable[[], bool], started: Callable[[], None]) -> None:
    """Be the leader as often as it can be had, and call `tick` at least every tick_s and soon after a wake-up."""
    while not stopping():
        try:
            with psycopg.connect(environment().database_url, autocommit=True) as connection:
                if _become_leader(connection, stopping):
                    LOG.info("this scheduler leads")
                    started()
                    _run(connection, tick, stopping)
        except psycopg.Error as error:
            LOG.warning("the database does not answer: %s", error)
            time.sleep(RETRY_S)


def _become_leader(connection: psycopg.Connection, stopping: Callable[[], bool]) -> bool:
    while not stopping():
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK]).fetchone()
        if row and row[0]:
            return True
        time.sleep(RETRY_S / 2)
    return False


def _run(connection: psycopg.Connection, tick: Callable[[], None], stopping: Callable[[], bool]) -> None:
    connection.execute(f"LISTEN {WAKE_CHANNEL}")
    while not stopping():
        tick()
        for _ in connection.notifies(timeout=environment().tick_s, stop_after=1):
            pass
        for _ in connection.notifies(timeout=GATHER_S):
            pass
        connection.execute("SELECT 1")
