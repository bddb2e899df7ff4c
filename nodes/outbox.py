"""The outbox: asking a node for something, sending it (again), and closing it when its effect was reported.

Invariants: a row is written in the transaction that decides; sending happens after commit and may fail; the sweeper
(scheduler) sends open rows again, later each time. A node that is lost is not sent to, and hears it when it is back.
"""

from __future__ import annotations

import datetime
import logging
import time
from typing import Any

from django.db import transaction
from django.utils import timezone

from clusteros.core.dispatch import send_now
from clusteros.envelope import make_ticket, seal
from nodes.models import Command, Node

LOG = logging.getLogger(__name__)
TASK = "nodes.agent.act"
RESEND_S = (2.0, 3.0, 5.0, 10.0, 15.0)
TICKET_S = 3600.0
START_EXPIRES_S = 10.0
"""A start that is older is not begun any more: bounds when a pod that never had a lease can appear."""


def queue_of(node: Node) -> str:
    return f"node.{node.name}"


def ask(
    node: Node, kind: str, key: str, body: dict[str, Any], *, job: Any = None, once: bool = False
) -> Command:
    """Ask `node` for `kind`; the same key again gives the row that is there."""
    row, made = Command.objects.get_or_create(
        key=key, defaults={"node": node, "kind": kind, "body": body, "job": job, "once": once}
    )
    if made:
        transaction.on_commit(lambda: send_command(row.pk), robust=True)
    return row


def send_command(command_id: Any) -> bool:
    """Send an open command now and note when to send it again."""
    now = timezone.now()
    row = Command.objects.select_related("node").filter(pk=command_id, done_at=None).first()
    if row is None or (row.once and row.sent_count):
        return False
    delay_s = RESEND_S[min(row.sent_count, len(RESEND_S) - 1)]
    claimed = Command.objects.filter(pk=row.pk, sent_count=row.sent_count, done_at=None).update(
        sent_count=row.sent_count + 1, sent_at=now, next_send_at=now + datetime.timedelta(seconds=delay_s)
    )
    return bool(claimed) and _publish(row, delay_s)


def _publish(row: Command, delay_s: float) -> bool:
    body = _with_tickets(row)
    envelope = seal(row.node.name, row.node.secret, row.kind, body, id=str(row.pk), sent_at=time.time())
    expires_s = START_EXPIRES_S if row.kind in ("start_pod", "restore_pod") else max(10.0, 3 * delay_s)
    return send_now(TASK, envelope, queue=queue_of(row.node), expires_s=expires_s)


def _with_tickets(row: Command) -> dict[str, Any]:
    """`sources` are kept as node names; addresses and passes are as fresh as the sending."""
    body = dict(row.body)
    if "sources" in body:
        body["sources"] = sources_for(row.node, body["sources"])
    return body


def sources_for(asking: Node, names: list[str]) -> list[dict[str, str]]:
    """[{node, url, ticket}] of the named nodes that may be alive, for `asking` to fetch from."""
    serving = Node.objects.filter(name__in=names).exclude(name=asking.name).exclude(state="lost")
    expiry = time.time() + TICKET_S
    return [{"node": n.name, "url": n.store_url, "ticket": make_ticket(n.secret, asking.name, expiry)} for n in serving]


def close(key: str, outcome: str = "") -> bool:
    """The command's effect was reported: it is not sent again."""
    changed = Command.objects.filter(key=key, done_at=None).update(done_at=timezone.now(), outcome=outcome[:200])
    return bool(changed)


def close_of_job(job: Any, *kinds: str, outcome: str = "superseded") -> int:
    """Nothing of these kinds shall be sent for this job any more."""
    open_rows = Command.objects.filter(job=job, done_at=None, kind__in=kinds)
    return open_rows.update(done_at=timezone.now(), outcome=outcome[:200])


def resend_due(now: datetime.datetime, limit: int = 100) -> int:
    """Send again what is due. Commands to lost nodes rest; those sent once only are closed."""
    Command.objects.filter(once=True, sent_count__gt=0, done_at=None).update(done_at=now, outcome="sent")
    due = Command.objects.filter(done_at=None, next_send_at__lte=now).exclude(node__state="lost")
    return sum(send_command(pk) for pk in due.order_by("next_send_at").values_list("pk", flat=True)[:limit])


def forget_old(now: datetime.datetime, keep_s: float = 3600.0) -> None:
    before = now - datetime.timedelta(seconds=keep_s)
    Command.objects.filter(done_at__lt=before).delete()
