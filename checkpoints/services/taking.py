"""Taking a generation: asked for, decided, reported, complete or failed.

Locks: the job first, then its generation, then its snapshots.
Invariants: one generation of a job at a time; the decision is written once, before anybody hears it; complete needs a
digest from every pod and the replicas asked for. Whatever goes wrong, the job runs on.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from checkpoints.models import RESUME_OPEN, Generation, Resume, Snapshot
from checkpoints.services.certifying import certify
from checkpoints.services.quotas import SYSTEM_CAUSES, refuse_over_quota
from checkpoints.services.replicas import ask_replicas_of, note_replica, replicas_are_enough
from checkpoints.services.resources import noted_of
from clusteros.core.dispatch import send_after_commit, wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import Problem, conflict
from clusteros.core.states import lock, move, move_if
from clusteros.environment import environment
from clusteros.words import size_words
from jobs.models import Job, Pod, Run
from nodes.models import Node
from nodes.outbox import ask, close

OPEN = ("taking", "storing")


@transaction.atomic
def take_generation(job: Job, *, cause: str = "asked", then: str = "run", acting_user: Any = None) -> Generation:
    """Begin a generation of the job as it runs now. Problem CONFLICT or UNSUPPORTED says why it cannot."""
    lock(job)
    refuse_over_quota(job, cause)
    run = _capturable_run(job, cause)
    generation = _make_rows(job, run, cause, then)
    _ask_pods(generation, run)
    Job.objects.filter(pk=job.pk).update(next_generation_at=_next(job))
    send_after_commit("control.coordinate_cut", str(generation.pk), queue="control")
    wake_scheduler()
    return generation


def _next(job: Job) -> datetime.datetime | None:
    return timezone.now() + datetime.timedelta(seconds=job.interval_s) if job.interval_s else None


def _capturable_run(job: Job, cause: str) -> Run:
    if job.state != "running":
        raise conflict(f"job {job.number} is {job.state}: a generation can be taken of a running job")
    active = Generation.objects.filter(job=job, state__in=OPEN).first()
    if active is not None:
        raise conflict(f"generation {active.number} of job {job.number} is being taken: one at a time")
    if cause not in SYSTEM_CAUSES and Resume.objects.filter(job=job, state__in=RESUME_OPEN).exists():
        raise conflict(f"job {job.number} is on its way to another generation or place")
    if job.checkpointable is False:
        raise Problem("UNSUPPORTED", _obstacle_words(job), obstacles=job.obstacles)
    run: Run = job.current_run
    away = [pod for pod in run.pods.select_related("node") if pod.state != "running"]  # type: ignore[attr-defined]
    if run.state != "running" or away:
        words = ", ".join(f"pod {pod.index} is {pod.state}" for pod in away) or f"its run is {run.state}"
        raise Problem("BUSY", f"job {job.number} cannot be captured at this moment: {words}")
    return run


def _obstacle_words(job: Job) -> str:
    named = "; ".join(str(item.get("words") or item) for item in job.obstacles[:5])
    return f"job {job.number} holds what cannot be captured: {named or 'see check'}"


def _make_rows(job: Job, run: Run, cause: str, then: str) -> Generation:
    last = Generation.objects.filter(job=job).aggregate(n=Max("number"))["n"] or 0
    now = timezone.now()
    generation = Generation(
        job=job, number=last + 1, run=run, epoch=run.epoch, parent=_parent(job, run), cause=cause, then=then,
        deadline=now + datetime.timedelta(seconds=environment().cut_deadline_s),
        ran_s=run.base_s + (now - (run.started_at or now)).total_seconds(),
    )  # fmt: skip
    generation.save(force_insert=True)
    record_event("generation.taking", f"asked for ({cause})", new="taking", **generation.event_refs())
    pods = Pod.objects.filter(run=run)
    Snapshot.objects.bulk_create(
        Snapshot(generation=generation, pod=p.index, node_id=p.node_id, resources=noted_of(p)) for p in pods  # type: ignore[attr-defined]
    )
    return generation


def _parent(job: Job, run: Run) -> Generation | None:
    """The newest complete generation of this run, else the one it grew from."""
    own = Generation.objects.filter(job=job, run=run, state="complete").order_by("-number").first()
    if own is not None or run.from_generation is None:
        return own
    return Generation.objects.filter(job=job, number=run.from_generation).first()


def _ask_pods(generation: Generation, run: Run) -> None:
    base = generation.parent if generation.parent and generation.parent.run_id == run.pk else None  # type: ignore[attr-defined]
    digests = dict(base.snapshots.values_list("pod", "digest")) if base else {}  # type: ignore[attr-defined]
    pods = list(Pod.objects.filter(run=run).select_related("node"))
    for pod in pods:
        body = {
            "run": str(run.pk), "epoch": run.epoch, "pod": pod.index, "generation": str(generation.pk),
            "number": generation.number, "pods": len(pods), "parent": digests.get(pod.index) or None,
            "then": generation.then, "deadline_s": environment().cut_deadline_s,
        }  # fmt: skip
        ask(pod.node, "snapshot_pod", snapshot_key(generation, pod.index), body, job=generation.job_id)  # type: ignore[attr-defined]


def snapshot_key(generation: Generation, pod: int) -> str:
    return f"snapshot:{generation.pk}:{pod}"


def record_cut(node: Node, opened: dict[str, Any]) -> None:
    """A pod has prepared or captured; the barrier itself is in Redis, this is for the record."""
    body = opened["body"]
    if body["phase"] not in ("prepared", "captured"):
        raise ValueError("not a phase of a cut")
    snapshot = _snapshot_of(node, body)
    move_if(snapshot, body["phase"])


def _snapshot_of(node: Node, body: dict[str, Any]) -> Snapshot:
    rows = Snapshot.objects.select_related("generation__job", "node")
    found = rows.filter(
        generation_id=body["generation"], generation__epoch=int(body["epoch"]), pod=int(body["pod"]), node=node
    ).first()
    if found is None:
        raise ValueError("no such snapshot was asked of this node")
    return found


def record_snapshot(node: Node, opened: dict[str, Any]) -> None:
    """A pod's part is stored, or has failed; then the whole is looked at."""
    body = opened["body"]
    snapshot = _snapshot_of(node, body)
    generation = snapshot.generation
    lock(generation.job)
    close(snapshot_key(generation, snapshot.pod), "ok" if body["ok"] else str(body.get("code")))
    if body["ok"]:
        if generation.then == "run" and generation.decision is None:
            decide_cut(generation, "go")  # a pod that runs on saw that all were captured
        _note_stored(snapshot, body)
        complete_generation(generation)
    else:
        words = f"pod {snapshot.pod} on {node.name}: {str(body.get('message') or body.get('code'))[:1000]}"
        code = str(body.get("code") or "")[:20]
        move_if(snapshot, "failed", words, code=code, message=words)
        fail_generation(generation, words, code=code)
    wake_scheduler()


def _note_stored(snapshot: Snapshot, body: dict[str, Any]) -> None:
    digest = str(body["digest"])
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError("the digest is not one")
    values: dict[str, Any] = {name: body.get(name) for name in ("pause_ms", "took_ms")}
    values |= {name: int(body.get(name) or 0) for name in ("bytes", "bytes_new")}
    moved = move_if(snapshot, "stored", digest=digest, log_marks=body.get("log_marks") or {}, **values)
    if moved:
        note_replica(digest, snapshot.node)
        if snapshot.generation.state in OPEN:
            ask_replicas_of(digest)
        warnings = [str(w)[:300] for w in body.get("warnings") or []][:50]
        if warnings:
            generation = lock(snapshot.generation)
            Generation.objects.filter(pk=generation.pk).update(warnings=generation.warnings + warnings)


@transaction.atomic
def decide_cut(generation: Generation, wish: str, words: str = "") -> str:
    """Write the decision, once. Gives the decision that stands: `go` or `abort`."""
    job = lock(generation.job)
    lock(generation)
    if generation.decision is not None:
        return generation.decision
    decision = "go" if wish == "go" and _may_go(generation, job) else "abort"
    if decision == "go":
        deadline = timezone.now() + datetime.timedelta(seconds=environment().store_deadline_s)
        move(generation, "storing", "every pod is captured", decision="go", deadline=deadline)
    else:
        _fail_locked(generation, words or "the cut was given up", "ABORTED")
    return decision


def _may_go(generation: Generation, job: Job) -> bool:
    run = generation.run
    alive = run is not None and run.state == "running" and run.epoch == job.epoch
    failed = generation.snapshots.filter(state="failed").exists()  # type: ignore[attr-defined]
    return generation.state == "taking" and alive and not failed and timezone.now() <= generation.deadline


@transaction.atomic
def fail_generation(generation: Generation, words: str, *, code: str = "ABORTED") -> bool:
    """The generation is not going to be complete; the job runs on. False when it is decided otherwise already."""
    lock(generation.job)
    lock(generation)
    if generation.state not in OPEN:
        return False
    _fail_locked(generation, words, code)
    return True


def _fail_locked(generation: Generation, words: str, code: str) -> None:
    decision = generation.decision or "abort"
    move(generation, "failed", words, decision=decision, reason=words, code=code, completed_at=timezone.now())
    if decision == "abort":
        send_after_commit("control.coordinate_cut", str(generation.pk), queue="control")
    if generation.then != "run":
        thaw_pods(generation)
    if generation.cause == "hold":
        Job.objects.filter(pk=generation.job_id).update(waiting_because=f"could not be held: {words}"[:2000])  # type: ignore[attr-defined]
    wake_scheduler()


def thaw_pods(generation: Generation) -> None:
    """The job was stopped with the cut and shall run on after all."""
    run = generation.run
    if run is None or run.state == "ended":
        return
    for pod in run.pods.select_related("node"):  # type: ignore[attr-defined]
        body = {"run": str(run.pk), "epoch": run.epoch, "pod": pod.index}
        ask(pod.node, "thaw_pod", f"thaw_pod:{run.pk}:{pod.index}", body, job=run.job_id)


@transaction.atomic
def complete_generation(generation: Generation) -> bool:
    """storing → complete when every pod has stored and the replicas asked for hold it. False: not yet."""
    job = lock(generation.job)
    lock(generation)
    if generation.state != "storing":
        return False
    snapshots = list(generation.snapshots.select_related("node"))  # type: ignore[attr-defined]
    if any(s.state != "stored" for s in snapshots) or not replicas_are_enough(s.digest for s in snapshots):
        return False
    figures = _figures(snapshots)
    move(generation, "complete", _size_words(figures), completed_at=timezone.now(), **figures)
    Job.objects.filter(pk=job.pk).update(restarts=0)
    certify(generation, snapshots)
    wake_scheduler()
    return True


def _figures(snapshots: list[Snapshot]) -> dict[str, Any]:
    return {
        "pause_ms": max((s.pause_ms or 0.0 for s in snapshots), default=None),
        "took_ms": max((s.took_ms or 0.0 for s in snapshots), default=None),
        "bytes": sum(s.bytes for s in snapshots),
        "bytes_new": sum(s.bytes_new for s in snapshots),
    }


def _size_words(figures: dict[str, Any]) -> str:
    return f"{size_words(figures['bytes'])}, {size_words(figures['bytes_new'])} written, pause {figures['pause_ms']:.0f} ms"
