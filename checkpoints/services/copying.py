"""A copy: a new job that grows from a generation of another one.

The copy's first generation names the same images by digest, so nothing is written: replicas, retention and removal look
at digests and keep them as long as either job needs them. The copy waits in the queue like any job and comes back from
that generation through resume_run; its processes are those of the image, so what shapes them cannot be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from checkpoints.models import Generation, Snapshot
from checkpoints.services.certifying import certify
from checkpoints.services.plans import Foresight, check_images, check_usable, wanted_nodes
from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import invalid
from clusteros.core.states import lock
from jobs.models import Job
from jobs.services.placing import request_of, room_of_nodes
from jobs.services.submit import asked_again, check_request, copy_files
from nodes.placement import Refusal, place

CHANGEABLE = ("name", "walltime_s", "interval_s", "keep", "keep_every", "keep_per", "hold", "nodes", "priority", "files_policy")
AS_IT_WAS = (
    "command", "script", "pods", "ranks_per_pod", "cores_per_rank", "mem_bytes", "env", "workdir", "placement", "queue",
)  # fmt: skip
OF_SNAPSHOT = ("pod", "node_id", "state", "digest", "bytes", "pause_ms", "took_ms", "log_marks", "resources")


@dataclass
class CopyPlan(Foresight):
    """`bytes` are shared, not copied; `waits` says why it would not start at once."""

    bytes: int = 0
    waits: str = ""

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "bytes": self.bytes, "waits": self.waits}


def plan_copy(job: Job, generation: Generation, placement: Any = None) -> CopyPlan:
    """What a copy would do; unlike a rollback it runs beside the job, so it may have to wait for room."""
    check_usable(generation)
    plan = CopyPlan(generation.number, checks=[check_images(generation)], bytes=generation.bytes)
    wanted = wanted_nodes(placement, job.pods)
    answer = place(room_of_nodes(), request_of(job, wanted))
    if isinstance(answer, Refusal):
        plan.waits = answer.words
    else:
        plan.placement = answer
    return plan


@transaction.atomic
def copy_from_generation(
    job: Job, generation: Generation, changes: Mapping[str, Any] | None = None, *, placement: Any = None, acting_user: Any = None
) -> Job:
    """A new job that goes on from `generation`, while `job` stays as it is."""
    lock(job)
    lock(generation)
    check_usable(generation)
    given = _checked(job, changes or {})
    wanted = wanted_nodes(placement or given.pop("nodes", None), job.pods)
    made = _make_job(job, generation, given, wanted)
    copy_files(job, made)
    _make_generation(made, generation)
    _tell(job, generation, made, acting_user)
    return made


def _checked(job: Job, changes: Mapping[str, Any]) -> dict[str, Any]:
    fixed = sorted(set(changes) - set(CHANGEABLE))
    if fixed:
        raise invalid(fixed[0], "a copy of a generation goes on as its processes are: only a copy from the start can change that")
    given = dict(changes)
    check_request(asked_again(job, {name: value for name, value in given.items() if name != "nodes"}))
    if given.get("priority", 0) > max(0, job.priority):
        raise invalid("priority", f"not above that of job {job.number}")
    return given


def _make_job(job: Job, generation: Generation, given: dict[str, Any], wanted: dict[str, str]) -> Job:
    held = given.pop("hold", False)
    values = {name: getattr(job, name) for name in (*AS_IT_WAS, *CHANGEABLE) if name not in ("hold", "nodes")}
    values |= {"name": job.name} | {name: value for name, value in given.items() if value or name != "name"}
    return Job.objects.create(
        owner=job.owner, state="held" if held else "queued", copied_from=job, copied_generation=generation.number,
        resume_from=1, resume_nodes=wanted, **values,
    )  # fmt: skip


def _make_generation(made: Job, source: Generation) -> None:
    now = timezone.now()
    first = Generation.objects.create(
        job=made, number=1, epoch=0, state="complete", cause="copy", decision="go", deadline=now, completed_at=now,
        pause_ms=source.pause_ms, took_ms=source.took_ms, bytes=source.bytes, bytes_new=0, ran_s=source.ran_s,
        warnings=source.warnings,
    )  # fmt: skip
    rows = Snapshot.objects.filter(generation=source).values(*OF_SNAPSHOT)
    Snapshot.objects.bulk_create(Snapshot(generation=first, bytes_new=0, **row) for row in rows)
    Generation.objects.filter(pk=first.pk).update(taken_at=source.taken_at)
    first.taken_at = source.taken_at
    certify(first, list(Snapshot.objects.filter(generation=first)))


def _tell(job: Job, generation: Generation, made: Job, acting_user: Any) -> None:
    actor = str(acting_user or job.owner)
    words = f"a copy of job {job.number}, grown from its generation {generation.number}"
    record_event(f"job.{made.state}", words, actor=actor, new=made.state, **made.event_refs())
    record_event("generation.copied", f"job {made.number} grows from it", actor=actor, **generation.event_refs())
    wake_scheduler()
