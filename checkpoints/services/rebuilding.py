"""The record made anew from certificates: after the loss of the database the nodes still hold every complete
generation with its signed certificate, and each certificate tells the whole job.

Invariants: only what carries this cluster's signature is believed; what the record has already is left as it is, so
it may be run again; a job that comes back this way is held, because nobody knows what became of its processes.
Replicas are noted by the next heartbeats.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Max

from checkpoints.certificates import JOB_FIELDS, check_certificate
from checkpoints.models import Generation, Snapshot
from clusteros.accounts.services import ensure_user
from clusteros.core.events import record_event
from jobs.models import Job
from jobs.models.job import next_job_number
from nodes.models import Node

LATER = ("keep_every", "keep_per")
"""Fields that certificates of older versions do not tell."""
HELD_WORDS = "its record was made anew from certificates: release it to bring it back from its last generation"


@transaction.atomic
def rebuild_from(found: dict[str, list[Any]]) -> dict[str, int]:
    """`found`: {node name: certificates that it holds}. Gives counts: jobs and generations made, certificates refused."""
    counts = {"jobs": 0, "generations": 0, "refused": 0}
    believed: dict[str, dict[str, Any]] = {}
    for certificates in found.values():
        for certificate in certificates:
            try:
                content = check_certificate(certificate)
            except ValueError:
                counts["refused"] += 1
                continue
            believed[content["generation"]["id"]] = content
    _count_on_from(max((content["job"]["number"] for content in believed.values()), default=0))
    for content in sorted(believed.values(), key=lambda c: (c["job"]["number"], c["generation"]["number"])):
        _make_generation(content, counts)
    return counts


def job_values(told: dict[str, Any]) -> dict[str, Any]:
    """A job's own fields, as a certificate tells them; one of an older version lacks some."""
    return {name: told[name] for name in JOB_FIELDS if name in told or name not in LATER}


def _make_job(told: dict[str, Any], counts: dict[str, int]) -> Job:
    job = Job.objects.filter(pk=told["id"]).first()
    if job is not None:
        return job
    owner = ensure_user(told["owner"])
    values = job_values(told)
    words = HELD_WORDS
    if Job.objects.filter(number=told["number"]).exists():  # somebody submitted before the record was made anew
        values["number"] = next_job_number()
        words = f"it was job {told['number']}; {HELD_WORDS}"
    job = Job.objects.create(id=told["id"], owner=owner, state="held", waiting_because=HELD_WORDS, **values)
    record_event("job.rebuilt", words, new="held", **job.event_refs())
    counts["jobs"] += 1
    return job


def _make_generation(content: dict[str, Any], counts: dict[str, int]) -> None:
    job, told = _make_job(content["job"], counts), content["generation"]
    if Generation.objects.filter(pk=told["id"]).exists():
        return
    taken_at = datetime.datetime.fromtimestamp(told["taken_at"], datetime.UTC)
    generation = Generation.objects.create(
        id=told["id"], job=job, number=told["number"], epoch=told["epoch"], state="complete", decision="go",
        parent=Generation.objects.filter(job=job, number=told["parent"]).first(), deadline=taken_at,
        completed_at=taken_at, **{n: told[n] for n in ("ran_s", "pause_ms", "bytes", "bytes_new", "cause")},
    )  # fmt: skip
    Generation.objects.filter(pk=generation.pk).update(taken_at=taken_at)
    make_snapshots(generation, content["pods"], Node.objects.order_by("name")[0])
    counts["generations"] += 1
    if job.state == "held" and job.waiting_because == HELD_WORDS:
        epoch = max(job.epoch, told["epoch"])
        Job.objects.filter(pk=job.pk).update(epoch=epoch, resume_from=told["number"])


def make_snapshots(generation: Generation, pods: list[dict[str, Any]], any_node: Node) -> None:
    """On which node a part was taken is not told, and does not matter: who holds it now does."""
    Snapshot.objects.bulk_create(
        Snapshot(
            generation=generation, pod=told["pod"], node=any_node, state="stored", digest=told["digest"],
            bytes=told["bytes"], bytes_new=told["bytes_new"], log_marks=told["log_marks"],
        )
        for told in pods
    )  # fmt: skip


def _count_on_from(told: int) -> None:
    """The next number is above all that are known and all that are told."""
    highest = max(Job.objects.aggregate(n=Max("number"))["n"] or 0, told)
    if highest:
        with connection.cursor() as cursor:
            cursor.execute("SELECT setval('jobs_job_number', GREATEST(%s, nextval('jobs_job_number')))", [highest])
