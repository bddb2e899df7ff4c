"""Which generations are kept: found, pinned, deleted by hand, and taken by retention.

Invariant: the last complete generation of a job is never deleted, nor one that a job is on its way to.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from checkpoints.models import RESUME_OPEN, Generation, Resume
from checkpoints.retention import Kept, expendable
from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import conflict, not_found
from clusteros.core.states import lock, move
from jobs.models import Job


def find_generation(job: Job, number: int) -> Generation:
    found = Generation.objects.select_related("job__owner", "parent", "run").filter(job=job, number=number).first()
    if found is None:
        raise not_found(f"generation {number} of job {job.number}")
    return found


@transaction.atomic
def pin_generation(generation: Generation, pinned: bool, *, acting_user: Any = None) -> Generation:
    """A pinned generation is kept whatever retention says."""
    lock(generation)
    if generation.state in ("failed", "deleted"):
        raise conflict(f"generation {generation.number} is {generation.state}: there is nothing to keep")
    if generation.pinned != pinned:
        Generation.objects.filter(pk=generation.pk).update(pinned=pinned)
        generation.pinned = pinned
        kind = "generation.pinned" if pinned else "generation.unpinned"
        record_event(kind, actor=str(acting_user or ""), **generation.event_refs())
    return generation


@transaction.atomic
def delete_generation(generation: Generation, *, acting_user: Any = None) -> Generation:
    """Give it up for good; its images are removed. Refused for a pinned, used or last complete one."""
    job = lock(generation.job)
    lock(generation)
    if generation.state == "deleted":
        return generation
    if generation.state in ("taking", "storing"):
        raise conflict(f"generation {generation.number} is {generation.state}: wait until that is over")
    if generation.pinned:
        raise conflict(f"generation {generation.number} is pinned: unpin it first")
    if generation.state == "complete":
        _refuse_needed(job, generation)
    move(generation, "deleted", "by hand", actor=str(acting_user or ""))
    wake_scheduler()
    return generation


def _refuse_needed(job: Job, generation: Generation) -> None:
    if generation.number in _in_use(job):
        raise conflict(f"job {job.number} comes back from generation {generation.number} at this moment")
    others = Generation.objects.filter(job=job, state="complete").exclude(pk=generation.pk)
    if not job.over and not others.exists():
        raise conflict(f"generation {generation.number} is the last complete one of job {job.number}")


def _in_use(job: Job) -> set[int]:
    used = set(Resume.objects.filter(job=job, state__in=RESUME_OPEN).values_list("generation__number", flat=True))
    used |= set(Resume.objects.filter(job=job, state__in=RESUME_OPEN).values_list("safety__number", flat=True))
    storing = Generation.objects.filter(job=job, state__in=("taking", "storing"))
    used |= set(storing.values_list("parent__number", flat=True))
    return {number for number in [*used, job.resume_from] if number is not None}


@transaction.atomic
def apply_retention(job: Job) -> list[int]:
    """Delete what retention lets go; the numbers."""
    lock(job)
    used = _in_use(job)
    complete = {g.number: g for g in Generation.objects.select_related("job").filter(job=job, state="complete")}
    going = expendable((Kept(g.number, g.pinned, g.number in used) for g in complete.values()), job.keep)
    for number in going:
        move(complete[number], "deleted", f"retention: the last {job.keep} are kept")
    return going
