"""How a run ends: the verdict on its command, the end of its pods, the job's final state.

A command that ends in error counts only when every other pod of the run was seen alive afterwards: when a node dies,
the launcher on another one notices first and gives up, and that is the node's death, not the job's.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.states import lock, move, move_if
from clusteros.environment import environment
from jobs.models import POD_LIVE, Job, Pod, Run
from nodes.models import Command
from nodes.outbox import START_EXPIRES_S, ask, close_of_job

VERDICT_PATIENCE_S = 15.0
SEEN_MARGIN_S = 0.2
FILES_PATIENCE_S = 120.0
START_COMMANDS = ("start_pod", "restore_pod", "snapshot_pod", "freeze_pod", "thaw_pod", "signal_pod", "exec_pod")


@transaction.atomic
def conclude_run(run: Run, now: datetime.datetime | None = None) -> bool:
    """Judge a run whose command is over; False while it is not clear yet. Called again until it is."""
    now = now or timezone.now()
    job = lock(run.job)
    lock(run)
    if run.state == "ended" or run.command_ended_at is None or run.epoch != job.epoch or job.over:
        return False
    if run.exit_status and not _others_were_seen(run, now):
        return False
    words = "the command ended with status 0" if not run.exit_status else f"the command ended with status {run.exit_status}"
    finish_job(job, "failed" if run.exit_status else "completed", words, exit_status=run.exit_status)
    return True


def _others_were_seen(run: Run, now: datetime.datetime) -> bool:
    """Every pod but pod 0 was alive later than the command's end. A lost pod never is: then the job is recovered."""
    others = [pod for pod in run.pods.select_related("node") if pod.index]  # type: ignore[attr-defined]
    if any(pod.state in ("lost", "failed", "ended") or pod.node.state == "lost" for pod in others):
        return False
    ended_at = run.command_ended_at or 0.0
    if all(pod.seen_at > ended_at + SEEN_MARGIN_S for pod in others):
        return True
    return run.command_noted_at is not None and (now - run.command_noted_at).total_seconds() > VERDICT_PATIENCE_S


def finish_job(job: Job, state: str, words: str, *, exit_status: int | None = None, actor: str = "") -> None:
    """The job is over: its state, its run's, and the end of every pod. The caller holds the job's lock."""
    now = timezone.now()
    reason = words if state != "completed" else ""
    move(
        job, state, words, actor=actor, exit_status=exit_status, reason=reason, ended_at=now, waiting_because="",
        resume_from=None, next_generation_at=None,
    )  # fmt: skip
    run = job.current_run
    if run is not None:
        end_run(run, words, upload=state != "cancelled")
    wake_scheduler()


def end_run(run: Run, words: str, *, upload: bool = False) -> None:
    """No pod of this run gets a lease any more, and each is asked to end (now, or after its files are in)."""
    close_of_job(run.job_id, *START_COMMANDS)
    move_if(run, "ended", words, ended_at=timezone.now(), reason=words)
    for pod in run.pods.select_related("node"):  # type: ignore[attr-defined]
        waits_for_files = upload and pod.index == 0 and pod.state == "ended" and not pod.files_in
        if not waits_for_files:
            ask_end(run, pod, upload=upload and pod.live)


def ask_end(run: Run, pod: Pod, *, upload: bool = False) -> None:
    body = {"run": str(run.pk), "epoch": run.epoch, "pod": pod.index, "upload": upload}
    ask(pod.node, "end_pod", end_key(run.pk, pod.index), body, job=run.job_id)


def end_key(run_id: Any, index: int) -> str:
    return f"end:{run_id}:{index}"


def end_finished_pods(now: datetime.datetime) -> None:
    """Pods that waited for their files to come in: they have, or it took too long."""
    waiting = Pod.objects.filter(run__state="ended", index=0, state="ended").select_related("run__job", "node")
    for pod in waiting.filter(run__ended_at__gte=now - datetime.timedelta(hours=1)):
        late = (now - (pod.run.ended_at or now)).total_seconds() > FILES_PATIENCE_S
        if pod.files_in or late:
            with transaction.atomic():
                ask_end(pod.run, pod)


def pods_gone(run: Run, now: datetime.datetime, margin_s: float) -> tuple[bool, str]:
    """(nothing of this run can act any more, what is still waited for). Ended, reported gone, or out of lease."""
    waiting = [pod for pod in run.pods.select_related("node") if not _gone(pod, now, margin_s)]  # type: ignore[attr-defined]
    return not waiting, ", ".join(f"pod {pod.index} on {pod.node.name}" for pod in waiting)


def _gone(pod: Pod, now: datetime.datetime, margin_s: float) -> bool:
    if pod.state in ("ended", "failed"):
        return True
    until = pod.lease_until or _first_lease_end(pod)
    return until is None or now > until + datetime.timedelta(seconds=margin_s)


def _first_lease_end(pod: Pod) -> datetime.datetime | None:
    """A pod that never had a lease from us may have got the command to start: until when that could still begin."""
    keys = [f"{verb}:{pod.run_id}:{pod.index}" for verb in ("start", "restore")]  # type: ignore[attr-defined]
    command = Command.objects.filter(key__in=keys).exclude(sent_at=None).first()
    if command is None or command.sent_at is None:
        return None
    return command.sent_at + datetime.timedelta(seconds=START_EXPIRES_S + environment().lease_s)


@transaction.atomic
def lose_pod(pod: Pod, words: str) -> bool:
    """The pod is gone without having been ended; what becomes of the job is decided by the clock."""
    if not move_if(pod, "lost", words):
        return False
    record_event("pod.gone", words, **pod.event_refs())
    wake_scheduler()
    return True


def live_pods(run: Run) -> list[Pod]:
    return [pod for pod in run.pods.select_related("node") if pod.state in POD_LIVE]  # type: ignore[attr-defined]
