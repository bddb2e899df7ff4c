"""`control.record`: the one task that nodes call. It opens the envelope and hands it to services; heartbeats are
answered with a lease.

Leases: the answer renews what the apps above allow; the node counts from the instant that its heartbeat was sent
(`heartbeat_boottime_ns`), we count from now, so ours ends later, never earlier.
"""

from __future__ import annotations

import datetime
import logging
import time
from typing import Any

from celery import shared_task
from django.utils import timezone

from clusteros.core.connections import refresh_connections
from clusteros.core.dispatch import send_now
from clusteros.envelope import seal
from clusteros.environment import environment
from nodes import inbox, services
from nodes.models import Node, NodeReport
from nodes.outbox import TASK, queue_of

LOG = logging.getLogger(__name__)
ACK_WINDOW_S = 20.0
MAX_ACKS = 2000


@shared_task(name="control.record")
def record(envelope: Any) -> None:
    refresh_connections()
    taken = inbox.take_envelope(envelope)
    if taken is None:
        return
    node, opened = taken
    if opened["kind"] == "heartbeat":
        take_heartbeat(node, opened)
    else:
        inbox.take_report(node, opened)


def take_heartbeat(node: Node, opened: dict[str, Any]) -> dict[str, Any] | None:
    """Take a heartbeat and what it carries, and answer it. Gives the answer, None for an old or malformed one."""
    body = opened["body"]
    now = timezone.now()
    try:
        fresh = services.record_heartbeat(node, body, now)
    except (KeyError, TypeError, ValueError) as error:
        LOG.warning("heartbeat of %s is malformed: %s", node.name, error)
        return None
    if not fresh:
        return None
    repeated = _take_unacked(node, body.get("unacked") or [])
    answer = inbox.heartbeat_answer(node, opened)
    answer |= {
        "heartbeat_boottime_ns": body["boottime_ns"],
        "ttl_s": environment().lease_s,
        "acked": _acks(node, repeated, now),
    }
    _send_lease(node, answer)
    return answer


def _take_unacked(node: Node, envelopes: list[Any]) -> list[str]:
    """The ids of repeated reports that are known now."""
    known = []
    for envelope in envelopes:
        opened = inbox.repeated_report(node, envelope)
        if opened is None:
            LOG.warning("dropped a repeated report of %s", node.name)
            continue
        inbox.take_report(node, opened)
        known.append(opened["id"])
    return known


def _acks(node: Node, repeated: list[str], now: datetime.datetime) -> list[str]:
    since = now - datetime.timedelta(seconds=ACK_WINDOW_S)
    recent = NodeReport.objects.filter(node=node, received_at__gte=since).order_by("-received_at")
    return sorted({*repeated, *(str(pk) for pk in recent.values_list("pk", flat=True)[:MAX_ACKS])})


def _send_lease(node: Node, answer: dict[str, Any]) -> None:
    """A late lease is worth nothing: it expires with the lease itself."""
    envelope = seal(node.name, node.secret, "lease", answer, sent_at=time.time())
    send_now(TASK, envelope, queue=queue_of(node), expires_s=environment().lease_s)
