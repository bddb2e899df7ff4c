"""What the shell offers after Tab where a job, a generation or a node is wanted: asked of the cluster, and silent when it does not
answer at once. (`clusteros --install-completion` sets the shell up: bash, zsh, fish.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import typer

from clusteros.client import Cluster, ClusterError
from clusteros.login import NoLogin

TIMEOUT_S = 2.0
MOST = 50
Offer = tuple[str, str]


def _asked(look: Callable[[Cluster], Iterator[Offer]], begun: str) -> list[Offer]:
    try:
        with Cluster(timeout_s=TIMEOUT_S) as door:
            return [(value, words) for value, words in look(door) if value.startswith(begun)]
    except (ClusterError, NoLogin, KeyError, TypeError):
        return []


def jobs(incomplete: str) -> list[Offer]:
    return _asked(lambda door: ((str(job["number"]), f"{job['name']}, {job['state']}") for job in door.jobs(limit=MOST)), incomplete)


def generations(ctx: typer.Context, incomplete: str) -> list[Offer]:
    job = ctx.params.get("job")
    return _asked(lambda door: _generations(door, str(job)), incomplete) if job else []


def _generations(door: Cluster, job: str) -> Iterator[Offer]:
    for each in reversed(door.generations(job)):
        if each["state"] == "complete":
            yield str(each["number"]), str(each["taken_at"])


def nodes(incomplete: str) -> list[Offer]:
    return _asked(_nodes, incomplete)


def _nodes(door: Cluster) -> Iterator[Offer]:
    found: list[Any] = door.nodes()
    return ((node["name"], f"{node['state']}, {node['cores']} cores") for node in found)
