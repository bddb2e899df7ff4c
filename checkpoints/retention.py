"""Retention, a pure function: which of a job's complete generations may go.

Kept are the last `keep`, those whose number is a multiple of `every`, the first of each hour or day, the pinned, those in use, and
always the newest: there is never less to come back to than before. Which multiples and which first ones are kept does not depend on
what has gone already, so that retention done twice takes nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SPANS_S = {"hour": 3600, "day": 86400}


@dataclass(frozen=True)
class Kept:
    """A complete generation as retention sees it. `bases`: numbers of generations whose images it needs."""

    number: int
    pinned: bool = False
    in_use: bool = False
    bases: frozenset[int] = frozenset()
    taken_at_s: float = 0.0
    """Unix seconds."""


@dataclass(frozen=True)
class Rule:
    """`every` 0: no multiples; `per`: one of SPANS_S, or nothing."""

    keep: int
    every: int = 0
    per: str = ""

    def words(self) -> str:
        found = [f"the last {self.keep}"]
        found += [f"every {ordinal(self.every)}"] if self.every else []
        found += [f"the first of every {self.per}"] if self.per else []
        return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def expendable(generations: Iterable[Kept], rule: Rule) -> list[int]:
    """Numbers that may be deleted, oldest first."""
    ordered = sorted(generations, key=lambda g: g.number)
    wanted = {g.number for g in ordered if g.pinned or g.in_use} | {g.number for g in ordered[-max(1, rule.keep) :]}
    wanted |= {g.number for g in ordered if rule.every and g.number % rule.every == 0} | _firsts(ordered, rule.per)
    wanted |= _needed_by(ordered, wanted)
    return [g.number for g in ordered if g.number not in wanted]


def _firsts(ordered: Sequence[Kept], per: str) -> set[int]:
    """The first generation of each span, by the clock (UTC)."""
    first: dict[int, int] = {}
    for g in ordered if per else ():
        first.setdefault(int(g.taken_at_s // SPANS_S[per]), g.number)
    return set(first.values())


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
