"""Generations and resumes as JSON, and what they add to a job's JSON."""

from __future__ import annotations

from typing import Any

from checkpoints.models import RESUME_OPEN, Generation, Replica, Resume, Snapshot
from jobs.json import job_json, text
from jobs.models import Job


def generation_json(generation: Generation, *, details: bool = False) -> dict[str, Any]:
    """`details`: with its snapshots and the nodes that hold each."""
    digests = {s.digest for s in generation.snapshots.all() if s.digest}  # type: ignore[attr-defined]
    copies = _holders(digests)
    answer = _generation_json(generation, copies)
    if details:
        rows = generation.snapshots.select_related("node")  # type: ignore[attr-defined]
        answer["snapshots"] = [_snapshot_json(row, copies) for row in rows]
    return answer


def generations_json(generations: list[Generation]) -> list[dict[str, Any]]:
    """Those of a page, with their snapshots prefetched: one query more, however many there are."""
    digests = {s.digest for each in generations for s in each.snapshots.all() if s.digest}  # type: ignore[attr-defined]
    copies = _holders(digests)
    return [_generation_json(each, copies) for each in generations]


def _generation_json(generation: Generation, copies: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "id": str(generation.pk), "number": generation.number,
        "parent": generation.parent.number if generation.parent else None, "state": generation.state,
        "epoch": generation.epoch, "pinned": generation.pinned, "cause": generation.cause,
        "reason": generation.reason, "code": generation.code, "pause_ms": generation.pause_ms,
        "took_ms": generation.took_ms, "bytes": generation.bytes, "bytes_new": generation.bytes_new,
        "taken_at": text(generation.taken_at), "completed_at": text(generation.completed_at),
        "warnings": generation.warnings, "replicas": _replicas(generation, copies),
    }  # fmt: skip


def _snapshot_json(s: Snapshot, copies: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "pod": s.pod, "node": s.node.name, "state": s.state, "digest": s.digest, "bytes": s.bytes,
        "bytes_new": s.bytes_new, "pause_ms": s.pause_ms, "took_ms": s.took_ms, "code": s.code,
        "message": s.message, "log_marks": s.log_marks, "replicas": sorted(copies.get(s.digest, [])),
    }  # fmt: skip


def _holders(digests: set[str]) -> dict[str, list[str]]:
    """Nodes that are not lost and hold the image whole."""
    rows = Replica.objects.filter(digest__in=digests, complete=True).exclude(node__state="lost")
    found: dict[str, list[str]] = {}
    for digest, name in rows.values_list("digest", "node__name"):
        found.setdefault(digest, []).append(name)
    return found


def _replicas(generation: Generation, copies: dict[str, list[str]]) -> int:
    """How many nodes hold it whole: the least of its images' numbers."""
    digests = {s.digest for s in generation.snapshots.all() if s.digest}  # type: ignore[attr-defined]
    return min((len(copies.get(digest, [])) for digest in digests), default=0)


def resume_json(resume: Resume) -> dict[str, Any]:
    return {
        "id": str(resume.pk), "cause": resume.cause, "state": resume.state,
        "generation": resume.generation.number if resume.generation else None,
        "safety_generation": resume.safety.number if resume.safety else None, "placement": resume.placement,
        "attempt": resume.attempt, "reason": resume.reason, "asked_at": text(resume.asked_at),
        "ended_at": text(resume.ended_at), "epoch": resume.run.epoch if resume.run else None,
    }  # fmt: skip


def full_job_json(job: Job) -> dict[str, Any]:
    """A job with its newest complete generation and the way it is on, if any."""
    last = Generation.objects.filter(job=job, state="complete").order_by("-number").first()
    rows = Resume.objects.select_related("generation", "safety", "run").filter(job=job)
    current = rows.filter(state__in=RESUME_OPEN).first()
    newest = current or rows.order_by("-asked_at").first()
    return job_json(job) | {
        "last_generation": {"number": last.number, "taken_at": text(last.taken_at)} if last else None,
        "resuming": resume_json(current) if current else None,
        "last_resume": resume_json(newest) if newest else None,
    }
