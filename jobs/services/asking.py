"""What a user asks of a job: cancel, signal, suspend, thaw, hold (while queued), release, exec.

Each is one transaction, refuses with words when the job's state does not allow it, and may be asked twice.
"""

from __future__ import annotations

import signal as signals
import uuid
from typing import Any

from django.db import transaction

from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import Problem, conflict, invalid
from clusteros.core.states import lock, move
from jobs.models import Job, Pod, Run
from jobs.services.ending import finish_job
from nodes.models import Command, Node
from nodes.outbox import ask

MAX_ARGUMENTS = 1000


@transaction.atomic
def cancel_job(job: Job, *, acting_user: Any = None) -> Job:
    """End the job for good. A job that is over stays as it is."""
    lock(job)
    if not job.over:
        finish_job(job, "cancelled", "cancelled", actor=str(acting_user or ""))
    return job


@transaction.atomic
def signal_job(job: Job, signal: str | int, *, acting_user: Any = None) -> Job:
    """Send a signal to the processes of the job's command (pod 0) and of its ranks (all pods)."""
    number = _signal_number(signal)
    run = _living_run(job)
    for pod in _pods(run):
        key = f"signal:{uuid.uuid4()}"
        ask(pod.node, "signal_pod", key, _name(run, pod) | {"signal": number}, job=job.pk, once=True)
    record_event("job.signalled", signals.Signals(number).name, actor=str(acting_user or ""), **job.event_refs())
    return job


def _signal_number(signal: str | int) -> int:
    try:
        if isinstance(signal, str) and not signal.isdecimal():
            name = signal.upper() if signal.upper().startswith("SIG") else f"SIG{signal.upper()}"
            return int(signals.Signals[name])
        return int(signals.Signals(int(signal)))
    except (KeyError, ValueError):
        raise invalid("signal", f"{str(signal)[:20]!r} is not a signal") from None


@transaction.atomic
def suspend_job(job: Job, *, acting_user: Any = None) -> Job:
    """Stop the job's processes where they are; they keep their memory. The state follows when all pods have stopped."""
    lock(job)
    if job.state == "suspended":
        return job
    if job.state == "running":
        _refuse_without_freezer(job)
    return _freeze(job, "freeze_pod", ("running",), "job.suspend_asked", acting_user)


def _refuse_without_freezer(job: Job) -> None:
    """A node service of an ordinary user may have no control group that can freeze: known from its doctor."""
    for pod in _pods(_living_run(job)):
        probe = probe_of(pod.node, "freezer")
        if probe is not None and not probe.get("ok"):
            why = probe.get("reason") or "no control group with a freezer"
            raise Problem(
                "UNSUPPORTED", f"pod {pod.index} runs on {pod.node.name}, which cannot freeze it ({why}): "
                f"job {job.number} cannot be suspended; a checkpoint and a later rollback give the same", pod=pod.index,
            )  # fmt: skip


def probe_of(node: Node, name: str) -> dict[str, Any] | None:
    """What a node's doctor said about one of its probes, if it was heard."""
    probes = node.doctor.get("probes") if isinstance(node.doctor, dict) else None
    found = [p for p in probes or [] if isinstance(p, dict) and p.get("name") == name]
    return found[0] if found else None


@transaction.atomic
def thaw_job(job: Job, *, acting_user: Any = None) -> Job:
    """Let a suspended job run on."""
    lock(job)
    if job.state == "running":
        return job
    return _freeze(job, "thaw_pod", ("suspended",), "job.resume_asked", acting_user)


def _freeze(job: Job, kind: str, states: tuple[str, ...], event: str, acting_user: Any) -> Job:
    if job.state not in states:
        raise conflict(f"job {job.number} is {job.state}, not {' or '.join(states)}")
    run = _living_run(job)
    other = "thaw_pod" if kind == "freeze_pod" else "freeze_pod"
    for pod in _pods(run):
        Command.objects.filter(key=f"{other}:{run.pk}:{pod.index}").delete()
        ask(pod.node, kind, f"{kind}:{run.pk}:{pod.index}", _name(run, pod), job=job.pk)
    record_event(event, actor=str(acting_user or ""), **job.event_refs())
    return job


@transaction.atomic
def hold_queued(job: Job, *, acting_user: Any = None) -> Job:
    """Keep a queued job from starting. (A running one is held by checkpoints.services.hold_job.)"""
    lock(job)
    if job.state != "held":
        if job.state != "queued":
            raise conflict(f"job {job.number} is {job.state}: only a queued or running job can be held")
        move(job, "held", actor=str(acting_user or ""), waiting_because="held by its owner")
    return job


@transaction.atomic
def release_job(job: Job, *, acting_user: Any = None) -> Job:
    """A held job may start again: from its start, or from the generation it was held with."""
    lock(job)
    if job.state == "queued":
        return job
    if job.state != "held":
        raise conflict(f"job {job.number} is {job.state}, not held")
    move(job, "queued", actor=str(acting_user or ""), waiting_because="", restarts=0)
    wake_scheduler()
    return job


@transaction.atomic
def exec_in_job(job: Job, argv: list[str], *, pod: int = 0, timeout_s: float = 60, acting_user: Any = None) -> Command:
    """Run a command inside a living pod; its output comes back as a report (see the command's outcome)."""
    if not argv or len(argv) > MAX_ARGUMENTS or any(not isinstance(w, str) or "\0" in w for w in argv):
        raise invalid("argv", "a list of words, the first of them a program")
    if not 0 < timeout_s <= 600:
        raise invalid("timeout_s", "between 0 and 600")
    run = _living_run(job)
    row = Pod.objects.filter(run=run, index=pod).select_related("node").first()
    if row is None:
        raise invalid("pod", f"the job has pods 0 to {job.pods - 1}")
    body = _name(run, row) | {"argv": argv, "timeout_s": timeout_s, "id": str(uuid.uuid4())}
    record_event("job.exec", " ".join(argv)[:200], actor=str(acting_user or ""), **job.event_refs())
    return ask(row.node, "exec_pod", f"exec:{body['id']}", body, job=job.pk, once=True)


def _living_run(job: Job) -> Run:
    run: Run | None = job.current_run
    if run is None or run.state != "running" or job.state not in ("running", "suspended"):
        raise conflict(f"job {job.number} is {job.state}: no process of it runs now")
    return run


def _pods(run: Run) -> list[Pod]:
    return [pod for pod in run.pods.select_related("node") if pod.live]  # type: ignore[attr-defined]


def _name(run: Run, pod: Pod) -> dict[str, Any]:
    return {"run": str(run.pk), "epoch": run.epoch, "pod": pod.index}
