"""A generation's resources beside today's, as rows of words; used by the console and the terminal. Pure: takes what REST answers
(GET /jobs/N/generations/M/difference)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clusteros.words import join_words, size_words, span_words

UNKNOWN = "–"


@dataclass(frozen=True)
class Row:
    """`change` is empty where both are the same, or one is not known."""

    words: str
    then: str
    now: str
    change: str


QUANTITIES = (
    ("ran_s", "has run for", span_words), ("processes", "processes", str), ("mem_bytes", "memory", size_words),
    ("cpu_s", "processor time", span_words), ("log_bytes", "output", size_words),
)  # fmt: skip


def rows(difference: Mapping[str, Any]) -> list[Row]:
    then, now = difference.get("then") or {}, difference.get("now") or {}
    return [*(_row(words, show, then.get(name), now.get(name)) for name, words, show in QUANTITIES), _nodes(then, now)]


def _row(words: str, show: Any, then: Any, now: Any) -> Row:
    return Row(words, _shown(show, then), _shown(show, now), _change(show, then, now))


def _shown(show: Any, value: Any) -> str:
    return UNKNOWN if value is None else str(show(value))


def _change(show: Any, then: Any, now: Any) -> str:
    if then is None or now is None or _shown(show, then) == _shown(show, now):
        return ""
    return f"{'+' if now > then else '−'}{show(abs(now - then))}"


def _nodes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Row:
    before, after = then.get("nodes"), now.get("nodes")
    moved = "moved" if before is not None and after is not None and before != after else ""
    return Row("nodes", _named(before), _named(after), moved)


def _named(names: list[str] | None) -> str:
    if not names:
        return UNKNOWN
    return join_words(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
