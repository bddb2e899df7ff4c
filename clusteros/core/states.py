"""State graphs: declared once, verified when imported, the only way by which a row's state changes.

Invariants: every move is one row lock, one update and one event row in the caller's transaction; a move that is not
declared is refused and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from django.db import models, transaction

from clusteros.core.events import record_event
from clusteros.core.problems import conflict

Row = TypeVar("Row", bound=models.Model)


class GraphError(Exception):
    """The declaration of a state graph does not hold together."""


class StateGraph:
    """`moves` maps each state to those that may follow it; `initial` is where a row begins."""

    def __init__(self, noun: str, initial: str, moves: Mapping[str, Iterable[str]]) -> None:
        self.noun = noun
        self.initial = initial
        self.moves = {state: frozenset(targets) for state, targets in moves.items()}
        self._verify()

    @property
    def states(self) -> list[str]:
        return list(self.moves)

    def final(self) -> frozenset[str]:
        return frozenset(state for state, targets in self.moves.items() if not targets)

    def choices(self) -> list[tuple[str, str]]:
        return [(state, state) for state in self.moves]

    def allows(self, old: str, new: str) -> bool:
        return new in self.moves.get(old, frozenset())

    def _verify(self) -> None:
        if self.initial not in self.moves:
            raise GraphError(f"{self.noun}: the initial state {self.initial} is not declared")
        for state, targets in self.moves.items():
            unknown = targets - self.moves.keys()
            if unknown or state in targets:
                raise GraphError(f"{self.noun}: {state} leads to {sorted(unknown) or 'itself'}")
        unreached = self.moves.keys() - self._reachable()
        if unreached:
            raise GraphError(f"{self.noun}: nothing leads to {sorted(unreached)}")

    def _reachable(self) -> set[str]:
        seen: set[str] = set()
        todo = [self.initial]
        while todo:
            state = todo.pop()
            if state not in seen:
                seen.add(state)
                todo.extend(self.moves[state])
        return seen


def move(row: Row, new: str, words: str = "", *, actor: str = "", **changes: Any) -> Row:
    """Move `row` to state `new` with `changes`; the row is refreshed. Problem CONFLICT when not declared."""
    graph: StateGraph = row.GRAPH  # type: ignore[attr-defined]
    with transaction.atomic():
        old = lock(row).state  # type: ignore[attr-defined]
        if not graph.allows(old, new):
            raise conflict(f"{graph.noun} {_name(row)} is {old} and cannot become {new}", state=old)
        changes["state"] = new
        type(row)._default_manager.filter(pk=row.pk).update(**changes)
        for field, value in changes.items():
            setattr(row, field, value)
        record_event(
            f"{graph.noun}.{new}", words, actor=actor, old=old, new=new,
            **row.event_refs(),  # type: ignore[attr-defined]
        )  # fmt: skip
    return row


def move_if(row: Row, new: str, words: str = "", *, actor: str = "", **changes: Any) -> bool:
    """Like move, for what may come twice or late: False (and nothing changed) when it does not apply any more."""
    graph: StateGraph = row.GRAPH  # type: ignore[attr-defined]
    with transaction.atomic():
        if not graph.allows(lock(row).state, new):  # type: ignore[attr-defined]
            return False
        move(row, new, words, actor=actor, **changes)
    return True


def lock(row: Row) -> Row:
    """Take the row's lock for the rest of the transaction and bring `row` up to date."""
    row.refresh_from_db(from_queryset=type(row)._default_manager.select_for_update(of=("self",)))
    return row


def _name(row: models.Model) -> str:
    return str(getattr(row, "number", None) or getattr(row, "name", None) or row.pk)
