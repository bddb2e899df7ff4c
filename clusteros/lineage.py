"""The tree of generations laid out in lanes, as history viewers do it: pure, used by the console and the terminal.

Rows run from the newest generation to the oldest. The line that leads to "now" is lane 0; every other branch gets the
first lane that is free over its whole length. A generation whose parent is not in the list (deleted long ago) is a root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class Row:
    """One generation: its lane, the lanes that pass by, and the lanes that fork off here (drawn upwards)."""

    number: int
    lane: int
    has_parent: bool
    has_child_in_lane: bool
    passing: list[int] = field(default_factory=list)
    forks: list[int] = field(default_factory=list)


def now_line(parents: Mapping[int, int | None], now: int | None) -> list[int]:
    """The generations from `now` down to its root."""
    line: list[int] = []
    at = now
    while at is not None and at in parents and at not in line:
        line.append(at)
        at = parents[at]
    return line


def lay_out(parents: Mapping[int, int | None], now: int | None = None) -> list[Row]:
    """`parents` maps each generation's number to its parent's; children have larger numbers than their parents."""
    order = sorted(parents, reverse=True)
    position = {number: row for row, number in enumerate(order)}
    lanes = _assign_lanes(parents, order, now)
    rows = [Row(n, lanes[n], _known_parent(parents, n) is not None, False) for n in order]
    for number in order:
        parent = _known_parent(parents, number)
        if parent is not None:
            _connect(rows, position[number], position[parent])
    return rows


def width(rows: Iterable[Row]) -> int:
    return 1 + max((row.lane for row in rows), default=0)


def _known_parent(parents: Mapping[int, int | None], number: int) -> int | None:
    parent = parents[number]
    return parent if parent in parents else None


def _assign_lanes(parents: Mapping[int, int | None], order: list[int], now: int | None) -> dict[int, int]:
    line = now_line(parents, now) or (now_line(parents, order[0]) if order else [])
    lanes = dict.fromkeys(line, 0)
    taken: list[list[tuple[int, int]]] = [[(0, order[0] if order else 0)]]
    for tip in order:
        branch = _unplaced_branch(parents, tip, lanes)
        if branch:
            lane = _free_lane(taken, (_known_parent(parents, branch[-1]) or branch[-1], tip))
            lanes.update(dict.fromkeys(branch, lane))
    return lanes


def _unplaced_branch(parents: Mapping[int, int | None], tip: int, lanes: Mapping[int, int]) -> list[int]:
    branch: list[int] = []
    at: int | None = tip
    while at is not None and at not in lanes and at not in branch:
        branch.append(at)
        at = _known_parent(parents, at)
    return branch


def _free_lane(taken: list[list[tuple[int, int]]], span: tuple[int, int]) -> int:
    low, high = span
    for lane, spans in enumerate(taken):
        if all(high < other_low or low > other_high for other_low, other_high in spans):
            spans.append(span)
            return lane
    taken.append([span])
    return len(taken) - 1


def _connect(rows: list[Row], child: int, parent: int) -> None:
    lane = rows[child].lane
    for between in rows[child + 1 : parent]:
        between.passing.append(lane)
    if lane == rows[parent].lane:
        rows[parent].has_child_in_lane = True
    else:
        rows[parent].forks.append(lane)
