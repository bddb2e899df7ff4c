"""An exported generation becomes a job of its own, which waits, held, to go on from there.

Invariants: only what carries this cluster's signature is believed, because an image says as whom its processes run; the generation counts
as complete only when nodes hold its images (`clusteros node import` brings them), in as many replicas as any other: the passes of the
clock see to that as they do after a snapshot, and fail it when the images do not appear in time.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from checkpoints.certificates import check_certificate
from checkpoints.models import Generation
from checkpoints.services.rebuilding import job_values, make_snapshots
from clusteros.accounts.services import ensure_user
from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import Problem, invalid
from clusteros.environment import environment
from jobs.models import Job
from nodes.models import Command, Node

HELD_WORDS = "it was imported: release it to bring it back from its generation"


@transaction.atomic
def import_generation(certificate: Any, *, acting_user: str = "") -> Generation:
    """The first generation of a new held job, `storing` until its images are found. Problem: not one of this cluster; no node is up."""
    try:
        content = check_certificate(certificate)
    except ValueError as fault:
        raise invalid("certificate", f"{fault}: only generations that this cluster exported are taken") from fault
    node = Node.objects.filter(state="up").order_by("name").first()
    if node is None:
        raise Problem("NO_ROOM", "no node is up that could hold the images")
    _refuse_doomed({str(each["digest"]) for each in content["pods"]})
    told = content["generation"]
    job = _make_job(content["job"])
    generation = _make_generation(job, told)
    make_snapshots(generation, content["pods"], node)
    words = f"from generation {told['number']} of job {content['job']['number']}, exported from this cluster"
    record_event("job.imported", words, actor=acting_user, new="held", **job.event_refs())
    wake_scheduler()
    return generation


def _refuse_doomed(digests: set[str]) -> None:
    """A node that is just removing these images would remove them again."""
    for row in Command.objects.filter(kind="remove_images", done_at=None).select_related("node"):
        if digests & set(row.body["digests"]):
            words = f"its images are just being removed from {row.node.name}: in some seconds  clusteros node import  again, then this"
            raise Problem("BUSY", words)


def _make_job(told: dict[str, Any]) -> Job:
    values = {name: value for name, value in job_values(told).items() if name != "number"}
    return Job.objects.create(owner=ensure_user(told["owner"]), state="held", waiting_because=HELD_WORDS, resume_from=1, **values)


def _make_generation(job: Job, told: dict[str, Any]) -> Generation:
    deadline = timezone.now() + datetime.timedelta(seconds=environment().store_deadline_s)
    figures = {name: told[name] for name in ("ran_s", "pause_ms", "bytes", "bytes_new")}
    generation = Generation.objects.create(
        job=job, number=1, epoch=0, state="storing", cause="import", decision="go", deadline=deadline, **figures
    )
    Generation.objects.filter(pk=generation.pk).update(taken_at=datetime.datetime.fromtimestamp(told["taken_at"], datetime.UTC))
    return generation
