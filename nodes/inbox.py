"""The door for what nodes report: opens the envelope, takes every report once, hands it to who registered its kind.

Invariants: a report is taken in one transaction with its id, so the same id again changes nothing and is acknowledged;
a report that can never be taken (it names what does not exist) is kept as refused and acknowledged too, or the node
would send it for ever. A failure of the database is neither: nothing is written, nothing acknowledged.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from django.db import transaction

from clusteros.core.problems import Problem
from clusteros.envelope import TO_CONTROL, EnvelopeError, node_of, open_sealed
from nodes.models import Node, NodeReport

LOG = logging.getLogger(__name__)
Opened = dict[str, Any]
Handler = Callable[[Node, Opened], None]
HeartbeatHandler = Callable[[Node, Opened, dict[str, Any]], None]

_handlers: dict[str, Handler] = {}
_heartbeat_handlers: list[HeartbeatHandler] = []
dropped: Counter[str] = Counter()


def on_report(kind: str) -> Callable[[Handler], Handler]:
    """Register the one handler of a kind: handler(node, opened). It raises Problem or ValueError to refuse."""

    def register(handler: Handler) -> Handler:
        if kind not in TO_CONTROL or kind in _handlers:
            raise ValueError(f"{kind} is not a kind of report, or has its handler")
        _handlers[kind] = handler
        return handler

    return register


def on_heartbeat(handler: HeartbeatHandler) -> HeartbeatHandler:
    """handler(node, opened, answer): called for every fresh heartbeat in order of registration; may add to answer."""
    _heartbeat_handlers.append(handler)
    return handler


def take_envelope(envelope: Any) -> tuple[Node, dict[str, Any]] | None:
    """(node, proven envelope), or None for what is dropped and counted: wrong mac, unknown node or kind."""
    try:
        node = Node.objects.filter(name=node_of(envelope)).first()
        if node is None:
            raise EnvelopeError("the node is not known")
        return node, open_sealed(envelope, node.secret, kinds=TO_CONTROL)
    except EnvelopeError as error:
        dropped[str(error)] += 1
        LOG.warning("dropped a message: %s", error)
        return None


def take_report(node: Node, opened: Opened) -> bool:
    """Take a report that is no heartbeat. True when it was new. Afterwards its id is known in any case."""
    try:
        with transaction.atomic():
            return _take_once(node, opened, "")
    except (Problem, ValueError, KeyError, TypeError) as error:
        words = getattr(error, "detail", None) or f"{type(error).__name__}: {error}"
        LOG.warning("%s from %s refused: %s", opened["kind"], node.name, words)
        with transaction.atomic():
            return _take_once(node, opened, words[:300] or "refused")


def _take_once(node: Node, opened: Opened, refused: str) -> bool:
    _, made = NodeReport.objects.get_or_create(
        id=opened["id"], defaults={"node": node, "kind": opened["kind"], "refused": refused}
    )
    if made and not refused:
        _handlers[opened["kind"]](node, opened)
    return made


def repeated_report(node: Node, envelope: Any) -> Opened | None:
    """A report that came inside a proven heartbeat: the heartbeat's mac vouches for it, the node's secret may have
    changed since it was sealed. None for what is no report."""
    try:
        named = node_of(envelope)
    except EnvelopeError:
        return None
    return envelope if named == node.name and envelope["kind"] in _handlers else None


def heartbeat_answer(node: Node, opened: Opened) -> dict[str, Any]:
    """Let every app see the inventory; gives the parts of the lease answer. Handlers make their own transactions, one
    per pod or so: no lock is held from one job to the next."""
    answer: dict[str, Any] = {}
    for handler in _heartbeat_handlers:
        handler(node, opened, answer)
    return answer
