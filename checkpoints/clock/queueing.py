"""The queue: first in, first out within a priority; a job that waits for room lets nobody pass who came later, unless
it could not run even on the empty cluster as it is now. Why each waits stands in its row.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction

from checkpoints.models import RESUME_OPEN, Generation, Resume
from checkpoints.services.resuming import resume_run
from clusteros.core.problems import Problem
from clusteros.core.states import lock, move_if
from clusteros.environment import environment
from jobs.models import Job, Pod, Run
from jobs.services.ending import pods_gone
from jobs.services.placing import note_waiting, place_queued, request_of, room_of_nodes, start_run
from jobs.services.running import fail_start
from nodes.placement import fits_empty

START_DEADLINE_S = 120.0


def place_jobs(clock: Any, now: datetime.datetime) -> None:
    ahead: Job | None = None
    queued = Job.objects.filter(state="queued").select_related("owner").order_by("-priority", "number")
    for job in queued[:200]:
        if ahead is not None:
            note_waiting(job, f"waits behind job {ahead.number}")
        elif not _try(job, now) and _blocks(job):
            ahead = job


def _try(job: Job, now: datetime.datetime) -> bool:
    run = job.current_run
    if run is not None and job.resume_from is None:
        gone, waiting = pods_gone(run, now, environment().restart_margin_s)
        if not gone:
            note_waiting(job, f"waits for the end, or the lease, of {waiting}")
            return False
    try:
        return _begin(job)
    except Problem as problem:
        note_waiting(job, problem.detail)
        return False


@transaction.atomic
def _begin(job: Job) -> bool:
    if lock(job).state != "queued":
        return True
    if job.resume_from is None:
        return place_queued(job)
    if Resume.objects.filter(job=job, state__in=RESUME_OPEN).exists():
        return True
    generation = Generation.objects.get(job=job, number=job.resume_from)
    resume_run(job, generation, cause="release", placement=job.resume_nodes or None)
    return True


def _blocks(job: Job) -> bool:
    return fits_empty(room_of_nodes(), request_of(job, job.wanted_nodes)) is None


def start_placed(clock: Any, now: datetime.datetime) -> None:
    """Runs that begin from the start: what may be started is asked for; what takes too long has failed."""
    runs = Run.objects.filter(state="starting", from_generation=None, job__state="starting")
    for run in runs.select_related("job__owner"):
        _go_on(run, now)


@transaction.atomic
def _go_on(run: Run, now: datetime.datetime) -> None:
    lock(run.job)
    lock(run)
    if run.state != "starting" or run.epoch != run.job.epoch:
        return
    pods = list(Pod.objects.filter(run=run).select_related("node", "run__job__owner"))
    failed = next((pod for pod in pods if pod.state == "failed"), None)
    if failed is not None:
        fail_start(run, failed)
    elif {pod.state for pod in pods} <= {"running", "frozen", "suspended", "ended"}:
        move_if(run, "running", started_at=now)
        move_if(run.job, "running", waiting_because="")
    elif (now - run.created_at).total_seconds() > START_DEADLINE_S:
        late = next(pod for pod in pods if pod.state in ("placed", "starting", "lost"))
        late.message = f"it did not start within {START_DEADLINE_S:.0f} s"
        fail_start(run, late)
    else:
        start_run(run)
