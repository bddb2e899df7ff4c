"""Cursor pages: newest first, `limit` items and a cursor for the next ones. Stable while rows are added."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from ninja import Schema

from clusteros.core.problems import invalid

MAX_LIMIT = 500


def page(
    rows: QuerySet[Any], as_json: Callable[[Any], Any] | None, *, key: str, limit: int, cursor: str | None,
    newest_first: bool = True, all_as_json: Callable[[list[Any]], list[Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """{"items": […], "next": cursor or null} ordered by the unique field `key`. `all_as_json` instead of `as_json`
    takes the whole page at once, so that it can ask for what belongs to it in one query."""
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid("limit", f"between 1 and {MAX_LIMIT}")
    if cursor:
        rows = rows.filter(**{f"{key}__{'lt' if newest_first else 'gt'}": _decode(cursor)})
    found = list(rows.order_by(f"-{key}" if newest_first else key)[: limit + 1])
    more = len(found) > limit
    following = _encode(getattr(found[limit - 1], key)) if more else None
    items = all_as_json(found[:limit]) if all_as_json else [as_json(row) for row in found[:limit]]  # type: ignore[misc]
    return {"items": items, "next": following}


def wanted_fields(text: str | None, schema: type[Schema]) -> list[str] | None:
    """The names in 'number,state'; Problem INVALID for one that the items do not have."""
    if not text:
        return None
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in schema.model_fields]
    if unknown:
        raise invalid("fields", f"{unknown[0][:30]!r} is not one of {', '.join(schema.model_fields)}")
    return names


def sparse(answer: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    if names is None:
        return answer
    return answer | {"items": [{name: item[name] for name in names} for item in answer["items"]]}


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
