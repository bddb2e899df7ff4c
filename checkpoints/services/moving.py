"""Jobs that leave their nodes: held (swapped out), recovered after a loss, moved off a node that is drained.

All of them go through a generation and resume_run; what differs is who asks and what happens when there is none.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from checkpoints.models import RESUME_OPEN, Generation, Resume, Snapshot
from checkpoints.services.replicas import is_restorable
from checkpoints.services.resuming import resume_run
from checkpoints.services.taking import take_generation
from clusteros.core.problems import Problem
from clusteros.core.states import lock, move
from clusteros.environment import environment
from jobs.models import Job, Pod, Run
from jobs.services.asking import hold_queued
from jobs.services.ending import end_run
from jobs.services.placing import note_waiting
from nodes.models import Node


def hold_job(job: Job, *, acting_user: Any = None) -> Job:
    """A queued job does not start; a running one is kept as a generation, stopped with it, and ended when that is
    complete (finish_holds)."""
    with transaction.atomic():
        lock(job)
        if job.state != "running":
            return hold_queued(job, acting_user=acting_user)
        take_generation(job, cause="hold", then="stop", acting_user=acting_user)
        note_waiting(job, "is being held: its generation is taken first")
    return job


def finish_holds() -> int:
    """Jobs whose generation for a hold is complete: their pods end and they are held."""
    ready = Generation.objects.filter(cause="hold", state="complete", job__state__in=("running", "suspended"))
    done = 0
    for generation in ready.select_related("job", "run"):
        done += _finish_hold(generation)
    return done


@transaction.atomic
def _finish_hold(generation: Generation) -> bool:
    job = lock(generation.job)
    run = job.current_run
    current = run is not None and run.pk == generation.run_id and run.state == "running"  # type: ignore[attr-defined]
    if job.state not in ("running", "suspended") or not current:
        return False
    words = f"held with generation {generation.number}"
    move(job, "held", words, resume_from=generation.number, waiting_because="held by its owner", next_generation_at=None)
    end_run(run, words)
    return True


# ---- recovery


def broken_runs() -> list[Run]:
    """Newest runs of jobs that should live and have lost a pod (or one that serves the others has ended)."""
    states = ("starting", "running", "suspended")
    runs = Run.objects.filter(state__in=("starting", "running"), job__state__in=states).select_related("job__owner")
    lost = Pod.objects.filter(state__in=("lost", "failed"))
    ended = Pod.objects.filter(state="ended")
    broken = runs.filter(pods__in=lost) | runs.filter(pods__in=ended, command_ended_at=None)
    unjudged = runs.filter(pods__in=ended.filter(index__gt=0), exit_status__gt=0)
    open_jobs = Resume.objects.filter(state__in=RESUME_OPEN).values("job")
    return list((broken | unjudged).exclude(job__in=open_jobs).distinct())


@transaction.atomic
def recover_job(run: Run) -> bool:
    """Bring a job that lost pods back from its last complete generation, or from its start when it has none. While
    there is no room it is left as it is: when its node comes back in time, nothing is lost."""
    job = lock(run.job)
    lock(run)
    if run.state == "ended" or run.epoch != job.epoch or job.state not in ("starting", "running", "suspended"):
        return False
    if job.restarts >= environment().max_restarts:
        return _hold_unlucky(job, run)
    generation = newest_restorable(job)
    if generation is None:
        return _begin_anew(job, run)
    try:
        with transaction.atomic():
            resume_run(job, generation, cause="recovery")
    except Problem as problem:
        note_waiting(job, f"{_loss(run)}; no room elsewhere now: {problem.detail}")
        return False
    Job.objects.filter(pk=job.pk).update(restarts=job.restarts + 1)
    return True


def _loss(run: Run) -> str:
    gone = run.pods.filter(state__in=("lost", "failed", "ended")).select_related("node")  # type: ignore[attr-defined]
    return ", ".join(f"pod {pod.index} on {pod.node.name} is {pod.state}" for pod in gone) or "a pod is gone"


def newest_restorable(job: Job) -> Generation | None:
    """The newest complete generation whose every image is on a node that is not lost, or in a directory that nodes share."""
    for generation in Generation.objects.filter(job=job, state="complete").order_by("-number").select_related("job"):
        if all(is_restorable(s.digest) for s in Snapshot.objects.filter(generation=generation)):
            return generation
    return None


def _begin_anew(job: Job, run: Run) -> bool:
    words = f"{_loss(run)}, and there is no complete generation: it begins anew"
    end_run(run, words)
    move(job, "queued", words, waiting_because=words, restarts=job.restarts + 1, next_generation_at=None)
    return True


def _hold_unlucky(job: Job, run: Run) -> bool:
    generation = newest_restorable(job)
    words = f"{_loss(run)}; it was brought back {job.restarts} times without getting further: release it to try again"
    end_run(run, words)
    move(
        job, "held", words, waiting_because=words, reason=words, next_generation_at=None,
        resume_from=generation.number if generation else None,
    )  # fmt: skip
    return True


# ---- migration


@transaction.atomic
def migrate_job(job: Job, off: set[str], *, acting_user: Any = None) -> Resume:
    """Move the job's pods off the named nodes, the others stay. Problem says why it cannot be."""
    lock(job)
    if job.checkpointable is False:
        raise Problem("UNSUPPORTED", f"job {job.number} holds what cannot be captured (see its check)")
    if job.state != "running":
        raise Problem("BUSY", f"job {job.number} is {job.state}")
    run: Run = job.current_run
    stay = {str(pod.index): pod.node.name for pod in run.pods.select_related("node") if pod.node.name not in off}  # type: ignore[attr-defined]
    stay = {pod: name for pod, name in stay.items() if name in _up_nodes()}
    return resume_run(job, None, cause="migration", placement=stay, acting_user=acting_user)


def _up_nodes() -> set[str]:
    return set(Node.objects.filter(state="up").values_list("name", flat=True))

