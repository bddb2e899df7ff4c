"""Which generations are kept: found, pinned, deleted by hand, and taken by retention.

Invariant: the last complete generation of a job is never deleted, nor one that a job is on its way to.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from checkpoints.models import RESUME_OPEN, Generation, Resume
from checkpoints.retention import Kept, Rule, expendable
from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import conflict, not_found
from clusteros.core.states import lock, move
from jobs.models import Job
from jobs.services.submit import RETENTION, check_retention


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
    rule = rule_of(job)
    going = _going(job, rule)
    for generation in going:
        move(generation, "deleted", f"retention: {rule.words()} are kept")
    return [generation.number for generation in going]


def rule_of(job: Job) -> Rule:
    return Rule(job.keep, job.keep_every, job.keep_per)


def _going(job: Job, rule: Rule) -> list[Generation]:
    used = _in_use(job)
    complete = {g.number: g for g in Generation.objects.select_related("job").filter(job=job, state="complete")}
    kept = (Kept(g.number, g.pinned, g.number in used, taken_at_s=g.taken_at.timestamp()) for g in complete.values())
    return [complete[number] for number in expendable(kept, rule)]


@transaction.atomic
def change_retention(job: Job, changes: dict[str, Any], *, dry_run: bool = False, acting_user: Any = None) -> dict[str, Any]:
    """Keep other generations from now on; what that removes is told, and with `dry_run` nothing is changed.
    {keep, keep_every, keep_per, words, removes: [numbers], dry_run}."""
    lock(job)
    values = {name: changes.get(name, getattr(job, name)) for name in RETENTION}
    check_retention(values)
    going = _going(job, Rule(values["keep"], values["keep_every"], values["keep_per"]))
    if not dry_run:
        Job.objects.filter(pk=job.pk).update(**values)
        for name, value in values.items():
            setattr(job, name, value)
        record_event("job.retention_changed", f"{rule_of(job).words()} are kept", actor=str(acting_user or ""), **job.event_refs())
        apply_retention(job)
        wake_scheduler()
    return {**values, "removes": [g.number for g in going], "words": Rule(*values.values()).words(), "dry_run": dry_run}
