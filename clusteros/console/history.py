"""A job's generations as the job page shows them: the rows of the tree from the newest to the oldest, and "now"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from django.db.models import QuerySet

from checkpoints.models import Generation, Replica, Snapshot
from clusteros.console import graph
from jobs.models import Job, Run

UNDER_WAY = ("taking", "storing")


@dataclass
class TreeRow:
    generation: Generation
    strip: graph.Strip
    mark: str
    nodes: list[str] = field(default_factory=list)
    """Nodes that hold images of it."""


@dataclass
class Tree:
    rows: list[TreeRow]
    width: int
    now: int | None
    """The generation from which the present has grown on."""


def tree_of(job: Job, run: Run | None) -> Tree:
    generations = list(job.generations.exclude(state="deleted").order_by("-number"))  # type: ignore[attr-defined]
    parents = living_parents(job)
    now = _nearest(now_of(run, generations), parents, dict(_parent_numbers(job)))
    strips, width = graph.strips(parents, now)
    held = holders(generations)
    rows = [TreeRow(each, strip, graph.mark_of(each), held[each.number]) for each, strip in zip(generations, strips, strict=True)]
    return Tree(rows, width, now)


def living_parents(job: Job) -> dict[int, int | None]:
    """Each generation's nearest ancestor that is not deleted, so that the tree stays one piece."""
    known = dict(_parent_numbers(job))
    living = set(job.generations.exclude(state="deleted").values_list("number", flat=True))  # type: ignore[attr-defined]
    return {number: _nearest(known.get(number), living, known) for number in living}


def _parent_numbers(job: Job) -> list[tuple[int, int | None]]:
    return list(job.generations.values_list("number", "parent__number"))  # type: ignore[attr-defined]


def _nearest(number: int | None, living: Collection[int], known: dict[int, int | None]) -> int | None:
    while number is not None and number not in living:
        number = known.get(number)
    return number


def now_of(run: Run | None, generations: list[Generation]) -> int | None:
    """The newest complete generation of the present run, else the one that it came from."""
    if run is None:
        return None
    own = [each.number for each in generations if each.run_id == run.id and each.state == "complete"]  # type: ignore[attr-defined]
    return max(own, default=run.from_generation)


def holders(generations: list[Generation]) -> dict[int, list[str]]:
    """For each generation the nodes that hold images of it."""
    digests = _digests(Snapshot.objects.filter(generation__in=generations).exclude(digest=""))
    copies: dict[str, set[str]] = defaultdict(set)
    wanted = {digest for each in digests.values() for digest in each}
    for digest, node in Replica.objects.filter(complete=True, digest__in=wanted).values_list("digest", "node__name"):
        copies[digest].add(node)
    return {each.number: _together(copies, digests.get(each.number, [])) for each in generations}


def _digests(snapshots: QuerySet[Snapshot]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for number, digest in snapshots.values_list("generation__number", "digest"):
        found[number].append(digest)
    return found


def _together(copies: dict[str, set[str]], digests: list[str]) -> list[str]:
    sets = [copies[digest] for digest in digests]
    return sorted(set.union(*sets)) if sets else []
