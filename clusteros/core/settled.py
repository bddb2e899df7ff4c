"""Rows that are read by a growing id: up to which id a reader may go without passing one that can still appear.

Ids are given before commit, so 5 may be seen before 4. A gap is filled or empty for good when it is old enough: whatever
stands before a row of that age is settled, so only the newest rows are looked at, however many there are before them.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

GAP_SETTLES_S = 2.0
LOOK_BACK = (50, 2000)
"""How many of the newest rows are looked at: a few, and more only where all of those are fresh."""


def settled_up_to(rows: QuerySet[Any], stamp: str, *, now: datetime.datetime | None = None) -> int:
    """The newest settled id of `rows` (all of a table), whose field `stamp` is the instant at which they were made."""
    now = now or timezone.now()
    for depth in LOOK_BACK:
        newest = list(rows.order_by("-id").values_list("id", stamp)[:depth])
        fresh = [number for number, at in newest if (now - at).total_seconds() < GAP_SETTLES_S]
        if len(fresh) < len(newest):
            break
    if not fresh:
        return newest[0][0] if newest else 0
    before = newest[len(fresh)][0] if len(fresh) < len(newest) else fresh[-1] - 1
    return _first_gap(before, sorted(fresh))


def _first_gap(before: int, fresh: list[int]) -> int:
    for number in fresh:
        if number != before + 1:
            break
        before = number
    return before
