"""Cursor pages: newest first, `limit` items and a cursor for the next ones. Stable while rows are added."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet

from clusteros.core.problems import invalid

MAX_LIMIT = 500


def page(
    rows: QuerySet[Any], as_json: Callable[[Any], Any], *, key: str, limit: int, cursor: str | None, newest_first: bool = True
) -> dict[str, Any]:
    """{"items": […], "next": cursor or null} ordered by the unique field `key`."""
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid("limit", f"between 1 and {MAX_LIMIT}")
    if cursor:
        rows = rows.filter(**{f"{key}__{'lt' if newest_first else 'gt'}": _decode(cursor)})
    found = list(rows.order_by(f"-{key}" if newest_first else key)[: limit + 1])
    more = len(found) > limit
    following = _encode(getattr(found[limit - 1], key)) if more else None
    return {"items": [as_json(row) for row in found[:limit]], "next": following}


def _encode(value: Any) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        text = ""
    if not text or len(text) > 100 or not all(c.isalnum() or c in "-_." for c in text):
        raise invalid("cursor", "not one of ours")
    if text.isdecimal() and len(text) > 18:
        raise invalid("cursor", "not one of ours")
    return text
