"""Live events: what happened is pushed to Channels groups, for browsers that look on. Best effort by design.

publish(event) never blocks and never fails: a thread of its own with its own event loop does the sending, and when
Redis is away events are dropped (pages reload what they show when they reconnect; the event log has everything).
Groups: `events` (all, for administrators and the cluster page), `user-ID` (owner's), `job-UUID`, `node-NAME`.
The message that a consumer gets: {"type": "cluster.event", "event": {...}} as in events.as_json.
Lines of logs are sent to `log-UUID` as {"type": "cluster.log", "log": {...}}.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import threading
from typing import Any

from channels.layers import get_channel_layer

LOG = logging.getLogger(__name__)
BACKLOG = 2000
SEND_TIMEOUT_S = 3.0
POLL_S = 0.02

_backlog: collections.deque[tuple[list[str], dict[str, Any]]] = collections.deque(maxlen=BACKLOG)
_starting = threading.Lock()
_thread: threading.Thread | None = None


def groups_of(event: dict[str, Any]) -> list[str]:
    groups = ["events"]
    if event.get("owner_id"):
        groups.append(f"user-{event['owner_id']}")
    if event.get("job"):
        groups.append(f"job-{event['job']}")
    if event.get("node"):
        groups.append(f"node-{event['node']}")
    return groups


def publish(event: dict[str, Any]) -> None:
    _put(groups_of(event), {"type": "cluster.event", "event": event})


def publish_log(job: str, log: dict[str, Any]) -> None:
    """`log`: run, pod, stream, offset, text."""
    _put([f"log-{job}"], {"type": "cluster.log", "log": log})


def _put(groups: list[str], message: dict[str, Any]) -> None:
    """The oldest go when nobody takes them."""
    _backlog.append((groups, message))
    _ensure_thread()


def _ensure_thread() -> None:
    global _thread
    with _starting:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=lambda: asyncio.run(_send_all()), name="live", daemon=True)
            _thread.start()


async def _send_all() -> None:
    """Looks every 20 ms: a helper thread that waits for a queue would keep the process from ending."""
    layer = get_channel_layer()
    while True:
        while _backlog:
            groups, message = _backlog.popleft()
            await _send(layer, groups, message)
        await asyncio.sleep(POLL_S)


async def _send(layer: Any, groups: list[str], message: dict[str, Any]) -> None:
    for group in groups:
        try:
            await asyncio.wait_for(layer.group_send(group, message), SEND_TIMEOUT_S)
        except Exception as error:
            LOG.debug("live listeners miss an event: %s", error)
            break
