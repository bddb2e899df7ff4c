"""What pages show of machines: nodes with the pods that one user may see, all of them as spots of a map, what they can hold.

A fixed number of queries, however many nodes there are. Nodes are everybody's, the names of others' jobs on them are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, F, Max, Prefetch, Sum

from clusteros.core.problems import not_found
from jobs.models import POD_LIVE, Pod
from nodes.models import Node

OF_POD = (
    "index", "state", "pids", "mem_bytes", "message", "node", "run__job__number", "run__job__name", "run__job__owner_id",
    "run__job__checkpointable", "run__job__ranks_per_pod", "run__job__cores_per_rank", "run__job__mem_bytes",
)  # fmt: skip
"""What the pages of nodes show of a pod: jobs carry scripts and environments that are not read here."""


@dataclass
class NodeView:
    """A node with what runs there, as one user may see it."""

    node: Node
    pods: list[Pod] = field(default_factory=list)
    own_pods: list[Pod] = field(default_factory=list)

    @property
    def cores_used(self) -> int:
        return sum(pod.run.job.pod_cores for pod in self.pods)

    @property
    def mem_promised(self) -> int:
        return sum(pod.run.job.mem_bytes for pod in self.pods)

    @property
    def other_pods(self) -> int:
        return len(self.pods) - len(self.own_pods)


def nodes_for(user: User, *, limit: int | None = None, **which: Any) -> list[NodeView]:
    living = Pod.objects.filter(state__in=POD_LIVE).select_related("run__job").order_by("run__job__number", "index").only(*OF_POD)
    nodes = Node.objects.filter(**which).prefetch_related(Prefetch("pods", living, to_attr="living"))
    return [_node_view(node, user) for node in (nodes if limit is None else nodes[:limit])]


def _node_view(node: Node, user: User) -> NodeView:
    pods: list[Pod] = node.living  # type: ignore[attr-defined]
    own = [pod for pod in pods if user.is_staff or pod.run.job.owner_id == user.pk]  # type: ignore[attr-defined]
    return NodeView(node, pods, own)


def node_for(user: User, name: str) -> NodeView:
    found = nodes_for(user, name=name)
    if not found:
        raise not_found(f"node {name}")
    return found[0]


@dataclass(frozen=True)
class Spot:
    """A node on the map: how much of it is given, as one of five heats."""

    name: str
    state: str
    cores: int
    given: int
    load: float
    mem_percent: int
    pods: int

    @property
    def heat(self) -> int:
        share = self.given / self.cores if self.cores else 0
        return 0 if not self.given else min(4, 1 + int(share * 3.99)) if share < 1 else 4

    @property
    def title(self) -> str:
        use = f"load {self.load:.1f}, memory {self.mem_percent} %, {self.pods} pods"
        return f"{self.name}: {self.state}, {self.given} of {self.cores} cores given, {use}"


def node_map() -> list[Spot]:
    """Every node in two queries, however many there are."""
    live = Pod.objects.filter(state__in=POD_LIVE).order_by().values("node").annotate(
        given=Sum(F("run__job__ranks_per_pod") * F("run__job__cores_per_rank")), pods=Count("pk")
    ).values_list("node", "given", "pods")  # fmt: skip
    taken = {node: (given, pods) for node, given, pods in live}
    rows = Node.objects.order_by("name").values_list("pk", "name", "state", "cores", "load1", "mem_used_bytes", "mem_bytes")
    return [_spot(row, *taken.get(row[0], (0, 0))) for row in rows]


def _spot(row: tuple[Any, ...], given: int, pods: int) -> Spot:
    _, name, state, cores, load, used, memory = row
    return Spot(name, state, cores, given, load, round(100 * used / memory) if memory else 0, pods)


def node_figures(spots: list[Spot]) -> dict[str, int]:
    up = [spot for spot in spots if spot.state != "lost"]
    memory = Node.objects.exclude(state="lost").aggregate(mem=Sum("mem_bytes"), mem_used=Sum("mem_used_bytes"))
    return {
        "nodes": len(spots), "up": len(up), "cores": sum(s.cores for s in up), "cores_used": sum(s.given for s in up),
        **{name: value or 0 for name, value in memory.items()},
    }  # fmt: skip


def names_of_usable_nodes() -> list[str]:
    return list(Node.objects.filter(state="up").values_list("name", flat=True))


def largest_node() -> dict[str, int]:
    """What one pod, and all of them, can have at most: for the form's help."""
    up = Node.objects.filter(state="up")
    most = up.aggregate(most_cores=Max("cores"), most_mem=Max("mem_bytes"), all_cores=Sum("cores"), nodes=Count("id"))
    return {name: value or 0 for name, value in most.items()}
