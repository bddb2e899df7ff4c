"""Placement, a pure function: nodes × request → a node for every pod, or a refusal in words.

`place` is total: it never changes its arguments, gives the same answer for the same question, and every refusal says
what is missing where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clusteros.words import count_words

GIB = 1024**3


@dataclass(frozen=True)
class NodeRoom:
    """A node that may take pods: what it has and what is still free."""

    name: str
    cores: int
    mem_bytes: int
    free_cores: int
    free_mem_bytes: int


@dataclass(frozen=True)
class PodRequest:
    """`pods` equal pods of one job. `wanted` (pod → node name) is the user's placement, "" for any."""

    pods: int
    cores: int
    mem_bytes: int
    policy: str = "spread"
    overcommit_cores: bool = False
    wanted: Mapping[int, str] | None = None


@dataclass(frozen=True)
class Refusal:
    words: str
    never: bool
    """Even with every node empty it would not fit."""


def place(nodes: Sequence[NodeRoom], request: PodRequest) -> dict[int, str] | Refusal:
    """{pod: node name} for each pod, or why not. Spread: the emptiest node first; pack: the fullest that fits."""
    if not nodes:
        return Refusal("no node is up", never=False)
    room = {node.name: node for node in nodes}
    placed: dict[int, str] = {}
    for pod in sorted(range(request.pods), key=lambda pod: not _wish(request, pod)):
        name = _choose(room, request, pod, placed)
        if name is None:
            return _refuse(nodes, request, pod)
        placed[pod] = name
        room[name] = _take(room[name], request)
    return dict(sorted(placed.items()))


def place_preferring_cores(nodes: Sequence[NodeRoom], request: PodRequest) -> dict[int, str] | Refusal:
    """For what exists already (a restore): with enough cores if there are, else several ranks on a core."""
    strict = place(nodes, replace(request, overcommit_cores=False))
    if not isinstance(strict, Refusal):
        return strict
    return place(nodes, replace(request, overcommit_cores=True))


def fits_empty(nodes: Sequence[NodeRoom], request: PodRequest) -> Refusal | None:
    """Would it fit if nothing else ran? The refusal names the largest node."""
    answer = place([_emptied(node) for node in nodes], request)
    return replace(answer, never=True) if isinstance(answer, Refusal) and nodes else None


def _wish(request: PodRequest, pod: int) -> str:
    return (request.wanted or {}).get(pod, "")


def _choose(room: dict[str, NodeRoom], request: PodRequest, pod: int, placed: dict[int, str]) -> str | None:
    wish = _wish(request, pod)
    fitting = [n for n in room.values() if (not wish or n.name == wish) and _fits(n, request)]
    if not fitting:
        return None
    own = {name: list(placed.values()).count(name) for name in room}
    if request.policy == "pack":
        return min(fitting, key=lambda n: (n.free_cores, n.free_mem_bytes, n.name)).name
    return min(fitting, key=lambda n: (own[n.name], -n.free_cores, -n.free_mem_bytes, n.name)).name


def _fits(node: NodeRoom, request: PodRequest) -> bool:
    cores_fit = request.overcommit_cores or request.cores <= node.free_cores
    return cores_fit and request.mem_bytes <= node.free_mem_bytes


def _take(node: NodeRoom, request: PodRequest) -> NodeRoom:
    return replace(
        node,
        free_cores=node.free_cores - request.cores,
        free_mem_bytes=node.free_mem_bytes - request.mem_bytes,
    )


def _emptied(node: NodeRoom) -> NodeRoom:
    return replace(node, free_cores=node.cores, free_mem_bytes=node.mem_bytes)


def _refuse(nodes: Sequence[NodeRoom], request: PodRequest, pod: int) -> Refusal:
    wish = _wish(request, pod)
    if wish and wish not in {node.name for node in nodes}:
        return Refusal(f"node {wish} is not up, or not known", never=False)
    never = _never_words(nodes, request)
    if never:
        return Refusal(never, never=True)
    where = f"node {wish}" if wish else "the nodes that are up"
    return Refusal(
        f"waits for room: {count_words(request.pods, 'pod')} with {count_words(request.cores, 'core')} and {_gib(request.mem_bytes)} "
        f"{'does' if request.pods == 1 else 'each do'} not fit beside what runs on {where} (free: {_free(nodes)})",
        never=False,
    )


def _never_words(nodes: Sequence[NodeRoom], request: PodRequest) -> str:
    """What no emptying of nodes would help with."""
    cores, memory = max(n.cores for n in nodes), max(n.mem_bytes for n in nodes)
    if not request.overcommit_cores and request.cores > cores:
        return f"needs {request.cores} cores on one node, the largest has {cores}"
    if request.mem_bytes > memory:
        return f"needs {_gib(request.mem_bytes)} of memory on one node, the largest has {_gib(memory)}"
    slots = sum(_slots(n, request) for n in nodes)
    if slots < request.pods:
        return f"needs room for {count_words(request.pods, 'pod')}, all nodes together have room for {slots}"
    return ""


def _slots(node: NodeRoom, request: PodRequest) -> int:
    by_memory = node.mem_bytes // max(1, request.mem_bytes)
    return by_memory if request.overcommit_cores else min(by_memory, node.cores // max(1, request.cores))


def _free(nodes: Sequence[NodeRoom]) -> str:
    parts = [f"{n.name} {count_words(max(0, n.free_cores), 'core')} {_gib(max(0, n.free_mem_bytes))}" for n in nodes[:8]]
    return ", ".join(parts) + (", …" if len(nodes) > 8 else "")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB // 10 else f"{size_bytes / 1024**2:.0f} MiB"
