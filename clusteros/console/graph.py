"""The picture of the tree of generations: one strip per row, as lines and circles in percentages of the row's height,
so that a row may be as high as its words need. Pure: lanes come from clusteros.lineage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clusteros import lineage

STEP = 18
MARGIN = 16
COLOURS = 5


@dataclass(frozen=True)
class Line:
    x1: int
    y1: str
    x2: int
    y2: str
    colour: int


@dataclass
class Strip:
    """What is drawn beside one generation; the circle stands at (x, 50 %)."""

    number: int
    x: int
    colour: int
    on_now_line: bool
    lines: list[Line] = field(default_factory=list)


def x_of(lane: int) -> int:
    return MARGIN + lane * STEP


def width_px(rows: list[lineage.Row]) -> int:
    return 2 * MARGIN + (lineage.width(rows) - 1) * STEP


def strips(parents: dict[int, int | None], now: int | None) -> tuple[list[Strip], int]:
    """(one strip per generation, newest first; the width of all)."""
    rows = lineage.lay_out(parents, now)
    line = set(lineage.now_line(parents, now))
    drawn = [_strip(row, row.number in line, row.number == now) for row in rows]
    for strip in _above(drawn, now):
        strip.lines.append(Line(x_of(0), "0%", x_of(0), "100%", 0))
    return drawn, width_px(rows)


def _above(drawn: list[Strip], now: int | None) -> list[Strip]:
    """The rows between "now", which stands on top, and the generation that it has grown from."""
    numbers = [strip.number for strip in drawn]
    return drawn[: numbers.index(now)] if now in numbers else []


def _strip(row: lineage.Row, on_now_line: bool, is_now: bool) -> Strip:
    x = x_of(row.lane)
    strip = Strip(row.number, x, row.lane % COLOURS, on_now_line)
    strip.lines += [Line(x_of(lane), "0%", x_of(lane), "100%", lane % COLOURS) for lane in sorted(set(row.passing))]
    strip.lines += [_fork(x, lane) for lane in row.forks]
    if row.has_child_in_lane or is_now:
        strip.lines.append(Line(x, "0%", x, "50%", strip.colour))
    if row.has_parent:
        strip.lines.append(Line(x, "50%", x, "100%", strip.colour))
    return strip


def _fork(x: int, lane: int) -> Line:
    return Line(x, "50%", x_of(lane), "0%", lane % COLOURS)


def mark_of(generation: Any) -> str:
    """How its circle looks: full, hollow (under way, deleted) or failed."""
    if generation.state == "failed":
        return "failed"
    return "" if generation.state == "complete" else "hollow"
