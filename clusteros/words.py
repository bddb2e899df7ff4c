"""Quantities in words and back: sizes, times, lists of names. Pure; shared by console and command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*$", re.IGNORECASE)
_SPAN_PARTS = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)", re.IGNORECASE)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1}


def parse_size(text: str) -> int:
    """'512M', '2GiB', '1048576' in bytes (powers of 1024); ValueError says what is wrong."""
    found = _SIZE.match(text)
    if not found:
        raise ValueError(f"'{text}' is not a size: write for example 512M or 2G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def parse_span(text: str) -> int:
    """'90', '30s', '1h30m', '2d', '01:30:00' in seconds; ValueError says what is wrong."""
    text = text.strip()
    if text.isdigit():
        return int(text)
    if re.fullmatch(r"\d+(:[0-5]?\d){1,2}", text):
        return _clock(text)
    if not text or _SPAN_PARTS.sub("", text).strip():
        raise ValueError(f"'{text}' is not a time: write for example 30s, 10m, 1h30m or 01:30:00")
    return int(sum(float(number) * _SECONDS[unit.lower()] for number, unit in _SPAN_PARTS.findall(text)))


def _clock(text: str) -> int:
    seconds = 0
    parts = [int(part) for part in text.split(":")]
    if len(parts) == 2:  # hours and minutes, as batch systems read it
        parts.append(0)
    for part in parts:
        seconds = seconds * 60 + part
    return seconds


def size_words(size_bytes: float | None) -> str:
    if size_bytes is None:
        return "–"
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def span_words(seconds: float | None) -> str:
    """A length of time, in at most two units: '40 s', '2 min 5 s', '3 h 10 min', '4 days'."""
    if seconds is None:
        return "–"
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", "s", 1)
    if whole < 172800:
        return _two(whole, 3600, "h", "min", 60)
    return _two(whole, 86400, "days", "h", 3600)


def _two(whole: int, large: int, large_name: str, small_name: str, small: int) -> str:
    rest = whole % large // small
    return f"{whole // large} {large_name}" + (f" {rest} {small_name}" if rest else "")


def ms_words(ms: float | None) -> str:
    if ms is None:
        return "–"
    if ms < 10:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def ago_words(then: datetime | None, now: datetime | None = None) -> str:
    if then is None:
        return "never"
    passed = ((now or datetime.now(UTC)) - then).total_seconds()
    return "just now" if passed < 2 else f"{_coarse(passed)} ago"


def _coarse(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds / 86400)} days"


def when(text: str | None) -> datetime | None:
    """An ISO 8601 time of the API; None stays None."""
    return datetime.fromisoformat(text) if text else None


def join_words(names: Sequence[str], last: str = "and") -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def count_words(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
