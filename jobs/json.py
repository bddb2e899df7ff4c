"""Jobs, runs and pods as JSON: the one place where their names at the doors are made."""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models import Max, Q

from jobs.models import Job, OutputFile, Pod, Run
from jobs.services.placing import pod_ip


def text(moment: datetime.datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def job_json(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.pk), "number": job.number, "name": job.name, "owner": job.owner.username, "state": job.state,
        "command": job.command, "script": job.script or None, "pods": job.pods, "ranks_per_pod": job.ranks_per_pod,
        "cores_per_rank": job.cores_per_rank, "mem_bytes": job.mem_bytes, "walltime_s": job.walltime_s,
        "env": job.env, "workdir": job.workdir, "interval_s": job.interval_s, "keep": job.keep, "keep_every": job.keep_every,
        "keep_per": job.keep_per,
        "files_policy": job.files_policy, "placement": job.placement, "nodes": job.wanted_nodes, "queue": job.queue,
        "priority": job.priority, "submitted_at": text(job.submitted_at), "started_at": text(job.started_at),
        "ended_at": text(job.ended_at), "exit_status": job.exit_status, "reason": job.reason,
        "waiting_because": job.waiting_because, "checkpointable": job.checkpointable, "obstacles": job.obstacles,
        "epoch": job.epoch, "restarts": job.restarts, "resume_from": job.resume_from,
        "copied_from": _copied_from(job), "array": job.array, "array_index": job.array_index,
    }  # fmt: skip


def _copied_from(job: Job) -> dict[str, Any] | None:
    if job.copied_from is None:
        return None
    return {"job": job.copied_from.number, "generation": job.copied_generation}


def with_last_generations(jobs: list[Job]) -> list[dict[str, Any]]:
    """Each job of a page with its newest complete generation: two queries however many there are. (This app does not
    know generations but by what refers to a job.)"""
    complete = Q(generations__state="complete")
    rows = Job.objects.filter(pk__in=[job.pk for job in jobs]).order_by().annotate(
        newest=Max("generations__number", filter=complete), at=Max("generations__taken_at", filter=complete)
    ).values_list("pk", "newest", "at")  # fmt: skip
    found = {pk: {"number": number, "taken_at": text(at)} for pk, number, at in rows if number is not None}
    return [job_json(job) | {"last_generation": found.get(job.pk)} for job in jobs]


def run_json(run: Run) -> dict[str, Any]:
    return {
        "id": str(run.pk), "epoch": run.epoch, "state": run.state, "from_generation": run.from_generation,
        "generation": run.from_generation,
        "created_at": text(run.created_at), "started_at": text(run.started_at), "ended_at": text(run.ended_at),
        "exit_status": run.exit_status, "reason": run.reason,
        "pods": [pod_json(pod) for pod in run.pods.all()],  # type: ignore[attr-defined]
    }  # fmt: skip


def pod_json(pod: Pod) -> dict[str, Any]:
    return {
        "pod": pod.index, "index": pod.index, "ip": pod_ip(pod.index), "node": pod.node.name,
        "state": pod.state, "pids": pod.pids, "processes": pod.processes,
        "mem_bytes": pod.mem_bytes, "cpu_s": pod.cpu_s, "exit_status": pod.exit_status, "code": pod.code,
        "message": pod.message, "lease_until": text(pod.lease_until), "checkpointable": pod.checkpointable,
        "obstacles": pod.obstacles, "started_at": text(pod.started_at), "ended_at": text(pod.ended_at),
        "stdout_bytes": pod.stdout_bytes, "stderr_bytes": pod.stderr_bytes,
    }  # fmt: skip


def output_json(item: OutputFile) -> dict[str, Any]:
    return {
        "path": item.path, "pod": item.pod, "epoch": item.run.epoch, "size": item.size_bytes, "sha256": item.sha256,
        "mtime": item.mtime, "uploaded": item.uploaded,
    }  # fmt: skip
