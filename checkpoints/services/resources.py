"""What a job used when a generation was taken, beside what it uses now: its pods' own figures, noted with the cut from the last
heartbeat before it (so both sides are measured alike). Unknown for generations whose record was made anew from certificates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.utils import timezone

from checkpoints.models import Generation, Snapshot
from jobs.models import POD_LIVE, Job, Pod

MOST_NAMED = 64


@dataclass(frozen=True)
class Used:
    """All pods together. `ran_s`: walltime used, counted over rollbacks."""

    pods: int
    nodes: list[str]
    processes: int
    mem_bytes: int
    cpu_s: float
    ran_s: float
    log_bytes: int


@dataclass(frozen=True)
class Difference:
    """`now` None: the job does not run; `then` None: nobody noted it. `begun` and `gone`: [{pod, pid, name}]."""

    then: Used | None
    now: Used | None
    begun: list[dict[str, Any]]
    gone: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def noted_of(pod: Pod) -> dict[str, Any]:
    """What a snapshot keeps of its pod's last report."""
    listed = [_short(each) for each in pod.processes if isinstance(each, dict)]
    return {"pids": pod.pids, "mem_bytes": pod.mem_bytes, "cpu_s": pod.cpu_s, "processes": listed}


def _short(process: dict[str, Any]) -> dict[str, Any]:
    return {"pid": process.get("pid"), "name": str(process.get("comm") or "")[:64], "mem_bytes": process.get("mem_bytes")}


def difference_of(job: Job, generation: Generation) -> Difference:
    snapshots = list(Snapshot.objects.filter(generation=generation).select_related("node"))
    pods = _pods_now(job)
    then, now = _then(generation, snapshots), _now(job, pods)
    before = {key for s in snapshots for key in _keys(s.pod, (s.resources or {}).get("processes", []))}
    after = {key for pod in pods for key in _keys(pod.index, [_short(each) for each in pod.processes])}
    known = then is not None and now is not None
    return Difference(then, now, _listed(after - before) if known else [], _listed(before - after) if known else [])


def _pods_now(job: Job) -> list[Pod]:
    run = job.current_run
    return list(Pod.objects.filter(run=run, state__in=POD_LIVE).select_related("node")) if run else []


def _then(generation: Generation, snapshots: list[Snapshot]) -> Used | None:
    noted = [s.resources for s in snapshots]
    if not noted or not all(noted):
        return None
    logs = sum(int(s.log_marks.get(stream) or 0) for s in snapshots for stream in ("stdout", "stderr"))
    return Used(
        len(noted), sorted({s.node.name for s in snapshots}), sum(each["pids"] for each in noted),
        sum(each["mem_bytes"] for each in noted), sum(each["cpu_s"] for each in noted), generation.ran_s, logs,
    )  # fmt: skip


def _now(job: Job, pods: list[Pod]) -> Used | None:
    run = job.current_run
    if run is None or not pods:
        return None
    ran_s = run.base_s + ((timezone.now() - run.started_at).total_seconds() if run.started_at else 0.0)
    return Used(
        len(pods), sorted({pod.node.name for pod in pods}), sum(pod.pids for pod in pods), sum(pod.mem_bytes for pod in pods),
        sum(pod.cpu_s for pod in pods), ran_s, sum(pod.stdout_bytes + pod.stderr_bytes for pod in pods),
    )  # fmt: skip


def _keys(pod: int, processes: Iterable[dict[str, Any]]) -> set[tuple[int, int, str]]:
    return {(pod, int(each["pid"] or 0), str(each["name"])) for each in processes}


def _listed(keys: set[tuple[int, int, str]]) -> list[dict[str, Any]]:
    return [{"pod": pod, "pid": pid, "name": name} for pod, pid, name in sorted(keys)[:MOST_NAMED]]
