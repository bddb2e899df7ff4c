"""The event log: rows written with what they tell of, pushed to live listeners after commit.

Owns record_event and the reading side (events_after, as_json). Event ids are given before commit, so a reader may see
5 before 4; events_after therefore stops before a gap until the gap is old enough to be a rolled-back transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q

from clusteros.core import live
from clusteros.core.models import Event
from clusteros.core.settled import settled_up_to


def record_event(kind: str, words: str = "", **values: Any) -> Event:
    """Write an Event (fields of the model in `values`) and push it to live listeners once it is committed."""
    event = Event.objects.create(kind=kind, words=words, **values)
    transaction.on_commit(lambda: live.publish(as_json(event)), robust=True)
    return event


def record_events(many: Iterable[Mapping[str, Any]]) -> None:
    """Many at once, in a few statements. Live listeners hear of the last: it tells them to look again."""
    events = Event.objects.bulk_create((Event(**values) for values in many), batch_size=2000)
    if events:
        transaction.on_commit(lambda: live.publish(as_json(events[-1])), robust=True)


def as_json(event: Event) -> dict[str, Any]:
    return {
        "id": event.id, "at": event.at.isoformat(), "kind": event.kind, "words": event.words, "actor": event.actor,
        "owner_id": event.owner_id, "job": _text(event.job), "job_number": event.job_number, "run": _text(event.run),
        "pod": event.pod, "generation": event.generation, "node": event.node, "old": event.old, "new": event.new,
        "data": event.data,
    }  # fmt: skip


def events_after(after: int, *, owner_id: int | None, job: uuid.UUID | None = None, limit: int = 200) -> list[Event]:
    """Events with a greater id, oldest first; `owner_id` None sees all, else those of its jobs and of no job."""
    found = Event.objects.filter(id__gt=after, id__lte=settled_up_to(Event.objects.all(), "at"))
    if owner_id is not None:
        found = found.filter(Q(owner_id=owner_id) | Q(owner_id=None))
    if job is not None:
        found = found.filter(job=job)
    return list(found.order_by("id")[:limit])


def newest_id() -> int:
    last = Event.objects.order_by("-id").values_list("id", flat=True).first()
    return last or 0


def _text(value: uuid.UUID | None) -> str | None:
    return str(value) if value else None
