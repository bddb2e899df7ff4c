"""Tasks of the control side about barriers. They hand the barrier to the worker's watcher and return at once; lost or
doubled they do no harm: the clock asks again, and the decision is written once."""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task
from django.utils import timezone

from checkpoints.barriers import WATCHER, Barrier, client, cut_prefix, restore_prefix, set_verdict
from checkpoints.models import Generation, Resume
from checkpoints.services.resuming import decide_restore
from checkpoints.services.taking import decide_cut
from clusteros.core.connections import refresh_connections


@shared_task(name="control.coordinate_cut")
def coordinate_cut(generation_id: str) -> None:
    refresh_connections()
    generation = Generation.objects.select_related("job").filter(pk=generation_id).first()
    if generation is None:
        return
    prefix = cut_prefix(generation.pk, generation.epoch)
    if generation.decision is not None:
        set_verdict(client(), prefix, generation.decision)
        return
    WATCHER.add(Barrier(
        prefix=prefix, name="captured", members=generation.snapshots.count(),  # type: ignore[attr-defined]
        deadline=_monotonic(generation.deadline),
        decide=lambda wish: decide_cut(_fresh(generation_id), wish, "not every pod was captured in time"),
        look=lambda: Generation.objects.values_list("decision", flat=True).get(pk=generation_id),
    ))  # fmt: skip


def _fresh(generation_id: str) -> Generation:
    return Generation.objects.select_related("job__owner", "run").get(pk=generation_id)


@shared_task(name="control.coordinate_restore")
def coordinate_restore(resume_id: str) -> None:
    refresh_connections()
    resume = Resume.objects.select_related("run").filter(pk=resume_id).exclude(run=None).first()
    if resume is None or resume.run is None:
        return
    prefix = restore_prefix(resume.run.pk, resume.run.epoch)
    if resume.decision is not None:
        set_verdict(client(), prefix, resume.decision)
        return
    WATCHER.add(Barrier(
        prefix=prefix, name="ready", members=resume.run.pods.count(),  # type: ignore[attr-defined]
        deadline=_monotonic(resume.deadline),
        decide=lambda wish: decide_restore(resume_id, wish),
        look=lambda: Resume.objects.values_list("decision", flat=True).get(pk=resume_id),
    ))  # fmt: skip


def _monotonic(deadline: Any) -> float:
    return time.monotonic() + max(0.0, (deadline - timezone.now()).total_seconds()) if deadline else time.monotonic()
