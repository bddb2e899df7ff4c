"""Retention, a pure function: which of a job's complete generations may go.

Kept are the last `keep`, the pinned, those in use, and always the newest: there is never less to come back to than
before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """A complete generation as retention sees it. `bases`: numbers of generations whose images it needs."""

    number: int
    pinned: bool = False
    in_use: bool = False
    bases: frozenset[int] = frozenset()


def expendable(generations: Iterable[Kept], keep: int) -> list[int]:
    """Numbers that may be deleted, oldest first."""
    ordered = sorted(generations, key=lambda g: g.number)
    wanted = {g.number for g in ordered if g.pinned or g.in_use} | {g.number for g in ordered[-max(1, keep) :]}
    wanted |= _needed_by(ordered, wanted)
    return [g.number for g in ordered if g.number not in wanted]


def _needed_by(generations: Sequence[Kept], wanted: set[int]) -> set[int]:
    """Everything that the wanted ones stand on, all the way down."""
    bases = {g.number: g.bases for g in generations}
    needed: set[int] = set()
    todo = list(wanted)
    while todo:
        for base in bases.get(todo.pop(), ()):
            if base not in needed:
                needed.add(base)
                todo.append(base)
    return needed
