"""After commit: wake the scheduler, start a task. Hints only: whoever is hinted finds the work in PostgreSQL, and
the scheduler finds it without a hint at its next tick.

Redis may be away: sending is tried once, in the background's own time, and never fails the caller.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db import connection, transaction

LOG = logging.getLogger(__name__)
WAKE_CHANNEL = "clusteros_wake"


def wake_scheduler() -> None:
    """NOTIFY is part of the transaction: PostgreSQL delivers it when, and only when, it commits."""
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {WAKE_CHANNEL}")


def send_after_commit(task: str, *args: Any, queue: str, expires_s: float = 60.0) -> None:
    transaction.on_commit(lambda: send_now(task, *args, queue=queue, expires_s=expires_s), robust=True)


def send_now(task: str, *args: Any, queue: str, expires_s: float = 60.0) -> bool:
    """True when the broker took it. Its loss is harmless: the row that asks for it is swept again."""
    try:
        current_app.send_task(task, args=args, queue=queue, expires=expires_s, retry=False, ignore_result=True)
        return True
    except Exception as error:  # kombu lets through whatever the transport raised
        LOG.warning("%s waits for the next sweep: %s", task, error)
        return False
