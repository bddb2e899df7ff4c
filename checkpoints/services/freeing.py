"""What a job's generations take and what each one's removal would give back, asked of the nodes that hold their images.

A chunk that another image needs is not given back, so that only a node can tell; all replicas count.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from checkpoints.models import Generation, Replica
from checkpoints.services.replicas import ALIVE
from checkpoints.services.stores import ask_store
from jobs.models import Job
from nodes.models import Node

TIMEOUT = httpx.Timeout(30.0, connect=2.0)
SIDE_BY_SIDE = 16
HOLDING = ("storing", "complete")


@dataclass
class Freed:
    """Sums over the nodes that answered; `silent`: why others did not."""

    by_generation: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    together: int = 0
    silent: list[str] = field(default_factory=list)


def job_store(job: Job) -> dict[str, Any]:
    """By generation: what it took, and what its removal would give back on all nodes together."""
    kept = list(Generation.objects.filter(job=job, state__in=HOLDING).prefetch_related("snapshots"))
    images = {g.number: {s.digest for s in g.snapshots.all() if s.digest} for g in kept}  # type: ignore[attr-defined]
    freed = _ask_all(images)
    return {
        "job": job.number, "name": job.name, "together": freed.together, "words": "; ".join(freed.silent),
        "generations": [
            {
                "number": g.number, "state": g.state, "pinned": g.pinned, "taken_at": g.taken_at.isoformat(), "bytes": g.bytes,
                "bytes_new": g.bytes_new, "frees": freed.by_generation[g.number],
            }
            for g in kept
        ],
    }  # fmt: skip


def _ask_all(images: dict[int, set[str]]) -> Freed:
    freed, by_node = Freed(), _by_node(set().union(*images.values()))
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        answers = list(pool.map(lambda item: _ask(item[0], _groups(images, item[1])), by_node.items()))
    for (node, held), answer in zip(by_node.items(), answers, strict=True):
        if isinstance(answer, str):
            freed.silent.append(f"{node.name}: {answer}")
            continue
        freed.together += answer["together"]
        for number, size in zip(_groups(images, held), answer["frees"], strict=True):
            freed.by_generation[number] += size
    return freed


def _by_node(digests: set[str]) -> dict[Node, set[str]]:
    found: dict[Node, set[str]] = defaultdict(set)
    for row in Replica.objects.filter(digest__in=digests, complete=True, node__state__in=ALIVE).select_related("node"):
        found[row.node].add(row.digest)
    return found


def _groups(images: dict[int, set[str]], held: set[str]) -> dict[int, list[str]]:
    return {number: sorted(digests & held) for number, digests in images.items() if digests & held}


def _ask(node: Node, groups: dict[int, list[str]]) -> dict[str, Any] | str:
    """{frees: [bytes of each group], together}, or why there is no answer. No database in here: it runs on a thread."""
    try:
        answer = ask_store(node, "images/frees", method="POST", json=list(groups.values()), timeout=TIMEOUT)
        found = answer.json() if answer.status_code == 200 else {}
        frees, together = [int(size) for size in found["frees"]], int(found["together"])
    except httpx.HTTPError as fault:
        return f"did not answer: {fault}"
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
    return {"frees": frees, "together": together} if len(frees) == len(groups) else "its answer is not whole"
