"""A job's whole life as one picture: strips of the states that it was in, of its runs and of its ways back, with marks
where generations were taken and pods were lost. Pure: times in, percentages of the picture's width out.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clusteros.words import span_words

LOOK = {
    "queued": "wait", "held": "wait", "starting": "busy", "running": "good", "suspended": "warn", "restoring": "busy",
    "completed": "done", "failed": "bad", "cancelled": "bad",
}  # fmt: skip
LEAST_PERCENT = 0.4
"""So that what took a moment is still seen."""


@dataclass(frozen=True)
class Span:
    """`end` None: it lasts."""

    words: str
    begin: datetime.datetime
    end: datetime.datetime | None
    look: str = ""


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    look: str
    title: str


@dataclass(frozen=True)
class Mark:
    x: float
    look: str
    title: str


@dataclass
class Lane:
    name: str
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    lanes: list[Lane]
    begin: datetime.datetime
    end: datetime.datetime

    @property
    def length(self) -> str:
        return span_words((self.end - self.begin).total_seconds())


class Scale:
    """From times to percentages."""

    def __init__(self, begin: datetime.datetime, end: datetime.datetime) -> None:
        self.begin, self.end = begin, end
        self._seconds = max(1.0, (end - begin).total_seconds())

    def x(self, at: datetime.datetime) -> float:
        return round(max(0.0, min(100.0, 100 * (at - self.begin).total_seconds() / self._seconds)), 2)

    def bar(self, span: Span) -> Bar:
        end = span.end or self.end
        x = min(self.x(span.begin), 100 - LEAST_PERCENT)
        width = max(LEAST_PERCENT, self.x(end) - x)
        lasted = span_words((end - span.begin).total_seconds())
        return Bar(x, round(width, 2), span.look, f"{span.words}, {lasted}")


def states(moves: Sequence[tuple[datetime.datetime, str]], until: datetime.datetime) -> list[Span]:
    """Strips of [(when, new state)]; the last one lasts until `until`, what is over leaves no strip."""
    spans = []
    for place, (at, state) in enumerate(moves):
        end = moves[place + 1][0] if place + 1 < len(moves) else until
        if LOOK.get(state) not in ("done", "bad"):
            spans.append(Span(state, at, end, LOOK.get(state, "")))
    return spans


def draw(
    lanes: Iterable[tuple[str, list[Span], list[tuple[datetime.datetime, str, str]]]], begin: datetime.datetime, end: datetime.datetime
) -> Picture:
    """`lanes`: (name, spans, [(when, look, words)]); empty ones are left out."""
    scale = Scale(begin, end)
    drawn = []
    for name, spans, marks in lanes:
        if spans or marks:
            dots = [Mark(scale.x(at), look, words) for at, look, words in marks]
            drawn.append(Lane(name, [scale.bar(span) for span in spans], dots))
    return Picture(drawn, begin, end)
