"""resume_run: rollback, recovery, migration and the return of a held job, as one verb that destroys last.

The verb only writes the wish down; `advance_resume` carries it on, phase by phase, called by the clock and whenever
something was reported. Each step is one transaction under the job's lock and finds its place again after a crash.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from checkpoints.models import RESUME_OPEN, Generation, Replica, Resume, Snapshot
from checkpoints.services.plans import check_usable, choose_nodes, is_alive, wanted_nodes
from checkpoints.services.replicas import fetch_image, holders, is_restorable
from checkpoints.services.taking import fail_generation, take_generation, thaw_pods
from clusteros.core.dispatch import send_after_commit, wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import Problem, conflict
from clusteros.core.states import lock, move, move_if
from clusteros.environment import environment
from jobs.models import Job, Pod, Run
from jobs.services.ending import end_run, pods_gone
from jobs.services.placing import make_run, note_waiting, pod_spec
from nodes.models import Command, Node
from nodes.outbox import ask, close
from nodes.placement import Refusal

MAX_TRIES_PER_GENERATION = 2
DESTROYS = ("rollback", "migration")
"""What ends a job that lives: the nodes are asked first whether they could bring it back."""
BEFORE_END = ("planned", "capturing", "fetching", "safety")


@transaction.atomic
def resume_run(
    job: Job, generation: Generation | None, *, cause: str, placement: Any = None, safety: bool = True,
    attempt: int = 1, acting_user: Any = None,
) -> Resume:  # fmt: skip
    """Begin to bring `job` back to `generation` (None: to the one that a migration takes first), elsewhere or here."""
    lock(job)
    _refuse_second(job)
    if generation is not None:
        check_usable(generation)
    wanted = wanted_nodes(placement, job.pods)
    nodes = choose_nodes(job, wanted)
    if isinstance(nodes, Refusal):
        raise Problem("NO_ROOM", nodes.words)
    resume = Resume(
        job=job, cause=cause, generation=generation, placement=_as_json(nodes), wanted=wanted, attempt=attempt,
        actor=str(acting_user or ""), wants_safety=safety and cause == "rollback",
    )  # fmt: skip
    resume.save(force_insert=True)
    target = f"generation {generation.number}" if generation else "a generation to be taken"
    record_event("resume.planned", f"{cause} to {target} on {_names(nodes)}", actor=resume.actor, **resume.event_refs())
    _enter(resume, "fetching" if generation is not None else "capturing")
    return resume


def _refuse_second(job: Job) -> None:
    other = Resume.objects.filter(job=job, state__in=RESUME_OPEN).select_related("generation").first()
    if other is not None:
        number = other.generation.number if other.generation else "?"
        raise conflict(f"job {job.number} is on its way to generation {number} already ({other.state})")


def _as_json(placement: dict[int, str]) -> dict[str, str]:
    return {str(pod): name for pod, name in placement.items()}


def _names(placement: dict[int, str]) -> str:
    return ", ".join(sorted(set(placement.values())))


def _enter(resume: Resume, state: str, words: str = "", **changes: Any) -> None:
    deadlines = {
        "capturing": environment().store_deadline_s, "fetching": environment().prefetch_deadline_s,
        "safety": environment().store_deadline_s, "restoring": environment().restore_deadline_s,
    }  # fmt: skip
    now = timezone.now()
    after_s = deadlines.get(state)
    deadline = now + datetime.timedelta(seconds=after_s) if after_s else None
    move(resume, state, words, phase_at=now, deadline=deadline, **changes)
    wake_scheduler()


@transaction.atomic
def advance_resume(resume_id: Any, now: datetime.datetime) -> bool:
    """Carry an open resume on by as many phases as are ready. False when it waits (or is over)."""
    resume = Resume.objects.select_related("job__owner", "generation", "safety", "run").get(pk=resume_id)
    lock(resume.job)
    lock(resume)
    if not resume.open:
        return False
    if _overtaken(resume):
        return _abandon(resume)
    steps = {
        "capturing": _capturing, "fetching": _fetching, "safety": _safety, "ending": _ending, "restoring": _restoring,
    }  # fmt: skip
    before = resume.state
    steps[resume.state](resume, now)
    return resume.state != before


def _overtaken(resume: Resume) -> bool:
    """The job came to its end meanwhile. A rollback brings back even what is over, but not what was cancelled since."""
    job = resume.job
    if not job.over or (resume.cause == "rollback" and resume.state in BEFORE_END and job.state != "cancelled"):
        return False
    cancelled_before = job.ended_at is not None and job.ended_at < resume.asked_at
    return resume.state not in BEFORE_END or resume.cause != "rollback" or not cancelled_before


def _abandon(resume: Resume) -> bool:
    words = f"the job is {resume.job.state}"
    move(resume, "failed", words, reason=words, decision=resume.decision or "abort", ended_at=timezone.now())
    return True


# ---- capturing: a migration takes its generation


def _capturing(resume: Resume, now: datetime.datetime) -> None:
    if resume.generation is None:
        _begin_capture(resume)
    elif resume.generation.state == "complete":
        _enter(resume, "fetching")
    elif resume.generation.state not in ("taking", "storing"):
        _give_up(resume, f"generation {resume.generation.number} failed: {resume.generation.reason}")


def _begin_capture(resume: Resume) -> None:
    taken = _try_take(resume, "migration", "stop")
    if isinstance(taken, str):
        _give_up(resume, taken)
    elif taken is not None:
        Resume.objects.filter(pk=resume.pk).update(generation=taken)


def _try_take(resume: Resume, cause: str, then: str) -> Generation | str | None:
    """A generation, None when it must wait for a moment, words when it cannot be."""
    if Generation.objects.filter(job=resume.job, state__in=("taking", "storing")).exists():
        return None
    try:
        with transaction.atomic():
            return take_generation(resume.job, cause=cause, then=then)
    except Problem as problem:
        return None if problem.code.retry and not _late(resume, timezone.now()) else problem.detail


def _late(resume: Resume, now: datetime.datetime) -> bool:
    return resume.deadline is not None and now > resume.deadline


# ---- fetching: every node gets and verifies what it lacks, and says whether it could bring it back


def _fetching(resume: Resume, now: datetime.datetime) -> None:
    if _lives_again(resume):
        return
    if not _replace_lost_nodes(resume):
        return
    missing, failed = _fetch_all(resume)
    if failed:
        _give_up(resume, failed)
    elif _late(resume, now):
        _give_up(resume, f"the images did not arrive in time: {', '.join(missing)}")
    elif not missing:
        _fetched(resume)


def _lives_again(resume: Resume) -> bool:
    """A recovery before anything was ended, and the pods are back: they run on, nothing is lost."""
    run = resume.job.current_run
    if resume.cause != "recovery" or resume.attempt > 1 or run is None or not is_alive(resume.job, run):
        return False
    move(resume, "failed", "its pods are back: nothing was lost", reason="its pods are back", ended_at=timezone.now())
    Job.objects.filter(pk=resume.job_id).update(waiting_because="")  # type: ignore[attr-defined]
    return True


def _replace_lost_nodes(resume: Resume) -> bool:
    """A node of the plan went away: plan anew. False when there is no room now (it waits, or gives up)."""
    names = set(resume.placement.values())
    if Node.objects.filter(name__in=names, state="up").count() == len(names):
        return True
    nodes = choose_nodes(resume.job, {})
    if isinstance(nodes, Refusal):
        _give_up(resume, nodes.words)
        return False
    resume.placement = _as_json(nodes)
    Resume.objects.filter(pk=resume.pk).update(placement=resume.placement)
    return True


def _fetch_all(resume: Resume) -> tuple[list[str], str]:
    """(what is still missing, why it cannot be got). A node verifies also what it holds already."""
    missing, failed = [], ""
    nodes = {node.name: node for node in Node.objects.filter(name__in=set(resume.placement.values()))}
    for snapshot in Snapshot.objects.filter(generation=resume.generation):
        node = nodes[resume.placement[str(snapshot.pod)]]
        outcome = _fetch_one(resume, snapshot, node)
        if outcome != "ok":
            missing.append(f"pod {snapshot.pod} on {node.name}")
        if outcome.startswith("failed"):
            failed = f"the image of pod {snapshot.pod} cannot be brought to {node.name}: {outcome[8:]}"
    return missing, failed


def _fetch_one(resume: Resume, snapshot: Snapshot, node: Node) -> str:
    key = f"fetch:{resume.pk}:{snapshot.pod}:{node.name}"
    row = Command.objects.filter(key=key).first()
    if row is not None:
        return row.outcome if row.done_at else ""
    having = [holder.name for holder in holders(snapshot.digest)]
    if not having and not is_restorable(snapshot.digest):
        return "failed: no node that is up holds it"
    fit = resume.job.files_policy if resume.cause in DESTROYS else ""
    fetch_image(node, snapshot.digest, having, key, job=resume.job_id, fit=fit)  # type: ignore[attr-defined]
    return ""


def _fetched(resume: Resume) -> None:
    run = resume.job.current_run
    if resume.wants_safety and run is not None and is_alive(resume.job, run):
        _enter(resume, "safety")
    else:
        _begin_end(resume)


# ---- safety: what lives is kept as a generation before it is ended


def _safety(resume: Resume, now: datetime.datetime) -> None:
    run = resume.job.current_run
    if resume.safety is None:
        _begin_safety(resume, run)
    elif resume.safety.state == "complete":
        _begin_end(resume)
    elif resume.safety.state not in ("taking", "storing"):
        _safety_failed(resume, run)


def _begin_safety(resume: Resume, run: Run | None) -> None:
    job = resume.job
    if run is None or not is_alive(job, run) or job.state == "suspended" or job.checkpointable is False:
        words = "no safety generation: " + ("the job cannot be captured" if job.checkpointable is False else job.state)
        record_event("resume.no_safety", words, **resume.event_refs())
        _begin_end(resume)
        return
    taken = _try_take(resume, "safety", "run")
    if isinstance(taken, str):
        _give_up(resume, f"no safety generation could be taken, and nothing was ended: {taken}")
    elif taken is not None:
        Resume.objects.filter(pk=resume.pk).update(safety=taken)


def _safety_failed(resume: Resume, run: Run | None) -> None:
    words = resume.safety.reason if resume.safety else ""
    if run is None or not is_alive(resume.job, run):
        _begin_end(resume)
    else:
        _give_up(resume, f"the safety generation failed, and nothing was ended: {words}")


# ---- ending: no way back


def _begin_end(resume: Resume) -> None:
    """From here on the old run gets no lease; the job is restoring."""
    job, number = resume.job, resume.generation.number if resume.generation else 0
    _enter(resume, "ending")
    if job.state != "restoring":
        move(job, "restoring", f"{resume.cause} to generation {number}", waiting_because="", next_generation_at=None)
    run = job.current_run
    if run is not None and run.state != "ended":
        for generation in Generation.objects.filter(job=job, state="taking"):
            fail_generation(generation, f"{resume.cause} to generation {number} went first")
        end_run(run, f"{resume.cause} to generation {number}")


def _ending(resume: Resume, now: datetime.datetime) -> None:
    for run in resume.job.runs.filter(epoch=resume.job.epoch):  # type: ignore[attr-defined]
        gone, waiting = pods_gone(run, now, environment().restart_margin_s)
        if not gone:
            note_waiting(resume.job, f"waits for the end, or the lease, of {waiting}")
            return
    note_waiting(resume.job, "")
    _begin_restore(resume)


# ---- restoring: pods of a new epoch, everyone ready, the decision, go


def _begin_restore(resume: Resume) -> None:
    nodes = Node.objects.filter(name__in=set(resume.placement.values()), state="up")
    if nodes.count() != len(set(resume.placement.values())):
        _fall_back(resume, "a node went away before the pods were made")
        return
    generation = resume.generation
    assert generation is not None
    snapshots = list(Snapshot.objects.filter(generation=generation))
    run = make_run(
        resume.job, {int(pod): name for pod, name in resume.placement.items()}, parent=generation.run,
        from_generation=generation.number, base_s=generation.ran_s,
        log_marks={str(s.pod): s.log_marks for s in snapshots},
    )  # fmt: skip
    _enter(resume, "restoring", run=run)
    for snapshot in snapshots:
        _ask_restore(resume, run, generation, snapshot)
    send_after_commit("control.coordinate_restore", str(resume.pk), queue="control")


def _ask_restore(resume: Resume, run: Run, generation: Generation, snapshot: Snapshot) -> None:
    pods = list(Pod.objects.filter(run=run).select_related("node"))
    pod = next(p for p in pods if p.index == snapshot.pod)
    body = pod_spec(run, pod, pods) | {
        "image": snapshot.digest, "generation": str(generation.pk), "number": generation.number,
        "log_marks": snapshot.log_marks, "sources": [node.name for node in holders(snapshot.digest)],
        "deadline_s": environment().restore_deadline_s, "files_policy": files_policy(run.job),
    }  # fmt: skip
    ask(pod.node, "restore_pod", restore_key(run, pod.index), body, job=run.job_id)


def files_policy(job: Job) -> str:
    """A copy runs beside the job that it grew from, with the same files open on shared storage: nothing there is taken back."""
    return "keep" if job.files_policy == "restore" and job.copied_from_id else job.files_policy


def restore_key(run: Run, pod: int) -> str:
    return f"restore:{run.pk}:{pod}"


def record_restored(node: Node, opened: dict[str, Any]) -> None:
    """A pod is ready at the barrier, runs, or could not be brought back."""
    body = opened["body"]
    phase = body["phase"]
    pods = Pod.objects.select_related("run__job__owner", "node")
    pod = pods.filter(run_id=body["run"], run__epoch=int(body["epoch"]), index=int(body["pod"]), node=node).first()
    if pod is None or phase not in ("ready", "running", "failed"):
        raise ValueError("no such pod is being restored on this node")
    close(restore_key(pod.run, pod.index), phase)
    lock(pod)
    if phase == "ready":
        move_if(pod, "starting", "ready")
    elif phase == "running":
        move_if(pod, "running", "restored", started_at=timezone.now())
    else:
        _note_restore_failed(pod, body)
    wake_scheduler()


def _note_restore_failed(pod: Pod, body: dict[str, Any]) -> None:
    words, code = str(body.get("message") or body.get("code"))[:2000], str(body.get("code") or "")[:20]
    move_if(pod, "failed", words, code=code, message=words, ended_at=timezone.now())
    if code == "BAD_IMAGE":
        resume = Resume.objects.filter(run=pod.run).select_related("generation").first()
        bad = Snapshot.objects.filter(generation=resume.generation, pod=pod.index).first() if resume else None
        if bad is not None:
            Replica.objects.filter(digest=bad.digest, node=pod.node).update(complete=False, failed_words=words[:300])


@transaction.atomic
def decide_restore(resume_id: Any, wish: str) -> str:
    """Write the decision of the restore's barrier, once; gives the one that stands."""
    resume = Resume.objects.select_related("job", "run").get(pk=resume_id)
    lock(resume.job)
    lock(resume)
    if resume.decision is not None:
        return resume.decision
    run = resume.run
    may_go = wish == "go" and resume.state == "restoring" and run is not None and run.state == "starting"
    may_go = may_go and not _late(resume, timezone.now()) and not _failed_pods(run)
    resume.decision = "go" if may_go else "abort"
    Resume.objects.filter(pk=resume.pk).update(decision=resume.decision)
    record_event(f"resume.{resume.decision}", "the decision of the barrier", **resume.event_refs())
    wake_scheduler()
    return resume.decision


def _failed_pods(run: Any) -> list[Pod]:
    pods = run.pods.select_related("node").filter(state__in=("failed", "lost"))
    return list(pods)


def _restoring(resume: Resume, now: datetime.datetime) -> None:
    run = resume.run
    assert run is not None
    failed = _failed_pods(run)
    states = set(run.pods.values_list("state", flat=True))  # type: ignore[attr-defined]
    if failed:
        words = "; ".join(f"pod {p.index} on {p.node.name}: {p.message or p.state}" for p in failed)
        _fall_back(resume, f"could not be restored: {words}")
    elif resume.decision == "abort" or (_late(resume, now) and resume.decision is None):
        _fall_back(resume, "the pods were not all ready in time")
    elif resume.decision == "go" and states <= {"running", "frozen", "suspended", "ended"}:
        _finish(resume, run)
    elif resume.decision == "go" and _late(resume, now):
        _fall_back(resume, "the pods did not all run in time after the decision")


def _finish(resume: Resume, run: Run) -> None:
    now = timezone.now()
    job = resume.job
    took_s = (now - resume.asked_at).total_seconds()
    move_if(run, "running", f"restored {took_s:.1f} s after it was asked for", started_at=now)
    due = now + datetime.timedelta(seconds=job.interval_s) if job.interval_s else None
    words = f"back at generation {run.from_generation} after {took_s:.1f} s"
    begun = job.started_at or now
    move(job, "running", words, waiting_because="", resume_from=None, next_generation_at=due, started_at=begun)
    move(resume, "done", f"after {took_s:.1f} s", ended_at=now)


# ---- when it does not work


def _give_up(resume: Resume, words: str) -> bool:
    """Nothing was ended yet: the job goes on as it was, or waits as it did."""
    move(resume, "failed", words, reason=words, ended_at=timezone.now())
    generation = resume.generation
    if resume.cause == "migration" and generation is not None and generation.then == "stop":
        thaw_pods(generation)
    if resume.attempt > 1 and resume.job.state == "restoring":
        _try_next(resume, words)
    elif resume.cause in ("recovery", "release"):
        note_waiting(resume.job, words)
    return True


def _fall_back(resume: Resume, words: str) -> None:
    """The old run is gone and the new one did not come: a newer epoch, and another generation."""
    decision = resume.decision or "abort"
    move(resume, "failed", words, reason=words, decision=decision, ended_at=timezone.now())
    run = resume.run
    if run is not None:
        end_run(run, words)
        send_after_commit("control.coordinate_restore", str(resume.pk), queue="control")
    _try_next(resume, words)


def _try_next(resume: Resume, words: str) -> None:
    job = resume.job
    generation = next_candidate(resume)
    if generation is None:
        _strand(resume, words)
        return
    try:
        with transaction.atomic():
            resume_run(job, generation, cause="recovery", attempt=resume.attempt + 1)
    except Problem as problem:
        move(job, "queued", problem.detail, resume_from=generation.number, waiting_because=problem.detail)


def next_candidate(resume: Resume) -> Generation | None:
    """The safety generation, else the same once more, else older ones; each at most twice since the job last ran."""
    job = resume.job
    last_done = Resume.objects.filter(job=job, state="done").order_by("-ended_at").first()
    tried = Resume.objects.filter(job=job, state="failed").exclude(generation=None)
    if last_done is not None and last_done.ended_at is not None:
        tried = tried.filter(asked_at__gt=last_done.ended_at)
    failures: dict[Any, int] = {}
    for pk in tried.values_list("generation_id", flat=True):
        failures[pk] = failures.get(pk, 0) + 1
    ceiling = resume.generation.number if resume.generation else 0
    older = Generation.objects.filter(job=job, state="complete", number__lte=ceiling).order_by("-number")
    safety = [resume.safety] if resume.safety is not None and resume.safety.state == "complete" else []
    for generation in [*safety, *older]:
        restorable = all(is_restorable(s.digest) for s in Snapshot.objects.filter(generation=generation))
        if restorable and failures.get(generation.pk, 0) < MAX_TRIES_PER_GENERATION:
            return generation
    return None


def _strand(resume: Resume, words: str) -> None:
    """No generation is left to try. The job is held, not lost: its generations and its owner's choice remain."""
    reason = f"no generation could be brought back ({words}): roll back to one, or release it to begin anew"
    move(resume.job, "held", reason, waiting_because=reason, reason=reason, resume_from=None)
