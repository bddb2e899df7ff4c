"""A submission that is only tried: is it acceptable, where would it run, and when. Reads only.

When: at once where there is room; else after the jobs whose walltime ends first, as far as those are known. A job
without a walltime may run for ever, and nothing is promised after it.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils import timezone

from jobs.models import Job, Pod, Run
from jobs.services.placing import PossibleSizes, request_of, room_of_nodes
from jobs.services.submit import JobRequest, check_request, nodes_by_pod, refuse_priority
from nodes.placement import NodeRoom, Refusal, place


@dataclass
class Foresight:
    """`placement` where it would start; `waits` why not now; `in_s` seconds until then, None when nobody knows."""

    placement: dict[int, str] = field(default_factory=dict)
    waits: str = ""
    ahead: int = 0
    in_s: float | None = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "dry_run": True, "placement": {str(pod): node for pod, node in self.placement.items()}, "waits": self.waits,
            "ahead": self.ahead, "in_s": None if self.in_s is None else round(self.in_s, 1), "words": self.words(),
        }  # fmt: skip

    def words(self) -> str:
        if not self.waits:
            return f"it would start at once on {', '.join(sorted(set(self.placement.values())))}"
        if self.in_s is None:
            return f"it would wait, nobody can say how long: {self.waits}"
        return f"it would start in about {max(1, round(self.in_s / 60))} min: {self.waits}"


def foresee(user: Any, request: JobRequest) -> Foresight:
    """Problem INVALID or NO_ROOM as a submission would give; else what would become of it now."""
    check_request(request)
    refuse_priority(request, user)
    PossibleSizes().check(request)
    wanted = request_of(request, nodes_by_pod(request.nodes, request.pods))
    room = room_of_nodes()
    ahead = Job.objects.filter(state="queued", priority__gte=request.priority).count()
    answer = place(room, wanted)
    if not isinstance(answer, Refusal):
        return Foresight(answer) if not ahead else Foresight(answer, f"{ahead} jobs wait before it", ahead, None)
    return Foresight({}, answer.words, ahead, None if ahead else _until_room(room, wanted))


def _until_room(room: list[NodeRoom], wanted: Any) -> float | None:
    """Let the running jobs end by their walltimes, one after the other, until it fits."""
    free = {node.name: node for node in room}
    for end_s, pods in _ends():
        for pod in pods:
            if pod.node.name in free:
                free[pod.node.name] = _given_back(free[pod.node.name], pod.run.job)
        if not isinstance(place(list(free.values()), wanted), Refusal):
            return max(0.0, end_s)
    return None


def _given_back(node: NodeRoom, job: Job) -> NodeRoom:
    return replace(node, free_cores=node.free_cores + job.pod_cores, free_mem_bytes=node.free_mem_bytes + job.mem_bytes)


def _ends() -> list[tuple[float, list[Pod]]]:
    """(seconds until its walltime is over, its pods) of every running job that has one, the next first."""
    now = timezone.now()
    runs = Run.objects.filter(state="running", job__walltime_s__isnull=False).select_related("job")
    runs = runs.prefetch_related("pods__node", "pods__run__job")
    ends = [(_left_s(run, now), list(run.pods.all())) for run in runs]  # type: ignore[attr-defined]
    return sorted(ends, key=lambda end: end[0])


def _left_s(run: Run, now: datetime.datetime) -> float:
    ran_s = run.base_s + (now - (run.started_at or now)).total_seconds()
    return (run.job.walltime_s or 0) - ran_s
