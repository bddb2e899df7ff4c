"""What nodes report about pods: single reports, and the inventory of every heartbeat with its lease answer.

Locks are taken in the order pod, job, run, everywhere: who holds a job's lock never asks for a pod's.
Invariants: a pod gets a lease only while its run is the job's newest and not ended; a report of an older run can move
its own pod and nothing else. A pod that an inventory has listed and a later one does not is gone.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from clusteros.core.dispatch import wake_scheduler
from clusteros.core.states import lock, move_if
from clusteros.environment import environment
from jobs.models import POD_LIVE, Job, Pod, Run
from jobs.services.ending import conclude_run, end_key, end_run, finish_job, lose_pod
from jobs.services.placing import start_key, start_run
from nodes.models import Command, Node
from nodes.outbox import close

REPORTED = ("starting", "running", "frozen", "suspended", "ended", "failed")
FINAL_CODES = ("NO_COMMAND", "USAGE", "INVALID", "DENIED", "UNSUPPORTED", "NO_INPUT")
MAX_START_TRIES = 3


def record_pod(node: Node, opened: dict[str, Any]) -> None:
    """One pod report: its figures, its state, and what follows for its run."""
    body = opened["body"]
    pod = _find(node, body)
    if pod is None:
        raise ValueError("this node has no such pod")
    _take(pod, body, float(opened["sent_at"]))


def _find(node: Node, body: dict[str, Any]) -> Pod | None:
    pods = Pod.objects.select_related("run__job__owner", "node")
    return pods.filter(run_id=body["run"], index=int(body["pod"]), node=node, run__epoch=int(body["epoch"])).first()


def _take(pod: Pod, body: dict[str, Any], sent_at: float) -> None:
    state = body["state"]
    if state not in REPORTED:
        raise ValueError(f"{state} is not a state of a pod")
    lock(pod)
    _note_figures(pod, body)
    _close_commands(pod, state)
    changed = _follow_state(pod, state, body)
    if state == "ended" and pod.index == 0 and body.get("exit_status") is not None:
        _note_command_end(pod, body, sent_at)
    if changed:
        _after_change(pod)


def _close_commands(pod: Pod, state: str) -> None:
    close(start_key(pod.run, pod.index), state)
    if state in ("suspended", "ended", "failed"):
        close(f"freeze_pod:{pod.run_id}:{pod.index}", state)  # type: ignore[attr-defined]
    if state in ("running", "ended", "failed"):
        close(f"thaw_pod:{pod.run_id}:{pod.index}", state)  # type: ignore[attr-defined]


def figures_of(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a report that are kept as they are."""
    values: dict[str, Any] = {}
    for field, kind in (("pids", int), ("mem_bytes", int), ("cpu_s", float)):
        if isinstance(body.get(field), int | float):
            values[field] = kind(body[field])
    for field in ("checkpointable", "obstacles", "processes", "exit_status"):
        if body.get(field) is not None:
            values[field] = body[field]
    return values


def _note_figures(pod: Pod, body: dict[str, Any]) -> None:
    values = figures_of(body)
    if values:
        Pod.objects.filter(pk=pod.pk).update(**values)
        for field, value in values.items():
            setattr(pod, field, value)
    if "checkpointable" in values:
        _note_checkpointable(pod.run)


def _note_checkpointable(run: Run) -> None:
    """The job's is the conjunction of its pods'; obstacles are named with their pod."""
    pods = list(run.pods.all())  # type: ignore[attr-defined]
    known = [pod.checkpointable for pod in pods if pod.checkpointable is not None]
    answer = False if False in known else (True if len(known) == len(pods) else None)
    obstacles = [{**item, "pod": pod.index} for pod in pods for item in pod.obstacles if isinstance(item, dict)]
    Job.objects.filter(pk=run.job_id, epoch=run.epoch).exclude(checkpointable=answer, obstacles=obstacles).update(
        checkpointable=answer, obstacles=obstacles
    )


def _follow_state(pod: Pod, state: str, body: dict[str, Any]) -> bool:
    changes: dict[str, Any] = {}
    words = str(body.get("message") or "")[:2000]
    if state == "running" and pod.started_at is None:
        changes["started_at"] = timezone.now()
    if state in ("ended", "failed"):
        changes |= {"ended_at": timezone.now(), "code": str(body.get("code") or "")[:20], "message": words}
    return move_if(pod, state, words, **changes)


def _note_command_end(pod: Pod, body: dict[str, Any], sent_at: float) -> None:
    ended = Run.objects.filter(pk=pod.run_id, command_ended_at=None, state__in=("starting", "running"))  # type: ignore[attr-defined]
    ended.update(command_ended_at=sent_at, command_noted_at=timezone.now(), exit_status=int(body["exit_status"]))


def _after_change(pod: Pod) -> None:
    run = Run.objects.select_related("job__owner").get(pk=pod.run_id)  # type: ignore[attr-defined]
    job = lock(run.job)
    wake_scheduler()
    if run.epoch != job.epoch or run.state == "ended":
        return
    if run.state == "starting" and run.from_generation is None:
        _go_on_starting(run, pod)
    if pod.state in ("running", "suspended"):
        follow_suspension(run)
    if run.command_ended_at is not None:
        conclude_run(run)


def _go_on_starting(run: Run, pod: Pod) -> None:
    if pod.state == "failed":
        fail_start(run, pod)
        return
    states = set(run.pods.values_list("state", flat=True))  # type: ignore[attr-defined]
    ran = states <= {"running", "frozen", "suspended", "ended"}
    if not ran:
        start_run(run)
    elif move_if(run, "running", started_at=timezone.now()):
        move_if(lock(run.job), "running", waiting_because="")


def fail_start(run: Run, pod: Pod) -> None:
    """A pod could not be started: for good when the request is at fault, else the job is queued again, a few times."""
    job = lock(run.job)
    words = f"pod {pod.index} on {pod.node.name} could not be started: {pod.message or pod.code}"
    if pod.code in FINAL_CODES or job.restarts + 1 >= MAX_START_TRIES:
        finish_job(job, "failed", words)
        return
    end_run(run, words)
    move_if(job, "queued", words + "; it is tried again", restarts=job.restarts + 1)


def follow_suspension(run: Run) -> None:
    """The job is suspended when all its pods are, and running when all run."""
    job = lock(run.job)
    states = set(run.pods.exclude(state="ended").values_list("state", flat=True))  # type: ignore[attr-defined]
    if states == {"suspended"} and job.state == "running":
        move_if(job, "suspended")
    if states == {"running"} and job.state == "suspended":
        move_if(job, "running")


# ---- the inventory of a heartbeat, and its answer


def record_inventory(node: Node, opened: dict[str, Any], answer: dict[str, Any]) -> None:
    """Take every pod of the inventory, find those that are gone, and answer which leases go on."""
    reports = {(str(r["run"]), int(r["pod"])): r for r in opened["body"].get("pods") or []}
    known = _known_pods(node, reports)
    answer |= {"pods": [], "ended": [], "logs": []}
    for key, report in reports.items():
        name = {"run": report["run"], "epoch": report["epoch"], "pod": report["pod"]}
        pod = known.get(key)
        if pod is None or pod.run.epoch != int(report["epoch"]):
            if _is_outdated(report):
                answer["ended"].append(name)
        else:
            _answer_lease(_take_listed(pod, report, float(opened["sent_at"])), name, report, answer)
    _miss_unlisted(node, set(reports))
    _close_done(node, reports, timezone.now())


def _known_pods(node: Node, reports: dict[tuple[str, int], Any]) -> dict[tuple[str, int], Pod]:
    pods = Pod.objects.filter(node=node, run_id__in={run for run, _ in reports})
    return {(str(p.run_id), p.index): p for p in pods.select_related("run__job__owner", "node")}  # type: ignore[attr-defined]


def _is_outdated(report: dict[str, Any]) -> bool:
    """A pod that the record does not have ends only on word of a newer epoch, or when its job is over. Without that it
    gets no lease and waits frozen: the record may be the one that forgot."""
    job = Job.objects.filter(pk=uuid.UUID(str(report.get("job")))).first() if report.get("job") else None
    return job is not None and (job.epoch > int(report["epoch"]) or job.over)


def _take_listed(pod: Pod, report: dict[str, Any], sent_at: float) -> Pod:
    """The quick way is one UPDATE: nothing but figures has changed."""
    alive = report["state"] not in ("ended", "failed")
    seen: dict[str, Any] = {"in_inventory": True, **({"seen_at": sent_at} if alive else {})}
    if pod.state == report["state"] and alive:
        Pod.objects.filter(pk=pod.pk).update(**figures_of(report), **seen)
        if _says_otherwise(pod, report):
            _note_checkpointable(pod.run)
        return pod
    with transaction.atomic():
        _take(pod, report, sent_at)
        Pod.objects.filter(pk=pod.pk).update(**seen)
    return Pod.objects.select_related("run__job__owner", "node").get(pk=pod.pk)


def _says_otherwise(pod: Pod, report: dict[str, Any]) -> bool:
    """Than the pod's row, or than the job's: two reports that are taken at the same moment may leave the job with the older answer,
    and this is what puts it right."""
    answer = report.get("checkpointable")
    if answer is None:
        return False
    return (answer, report.get("obstacles") or []) != (pod.checkpointable, pod.obstacles) or answer != pod.run.job.checkpointable


def _answer_lease(pod: Pod, name: dict[str, Any], report: dict[str, Any], answer: dict[str, Any]) -> None:
    """Renewed is what lives by the record, in the newest run of its job, if that has not ended."""
    now = timezone.now()
    current = Pod.objects.filter(pk=pod.pk, run__epoch=F("run__job__epoch")).exclude(run__state="ended")
    until = now + datetime.timedelta(seconds=environment().lease_s)
    if current.filter(state__in=POD_LIVE).update(lease_until=until):
        answer["pods"].append(name)
    elif report["state"] not in ("ended", "failed") and not current.exists():
        answer["ended"].append(name)
        _reopen_end(pod.run, pod, now)
    answer["logs"].append({
        "run": name["run"], "pod": pod.index, "stdout": pod.stdout_bytes, "stderr": pod.stderr_bytes,
    })  # fmt: skip


def _reopen_end(run: Run, pod: Pod, now: datetime.datetime) -> None:
    """It was asked to end and still lives: ask again."""
    Command.objects.filter(key=end_key(run.pk, pod.index)).exclude(done_at=None).update(done_at=None, next_send_at=now)


def _miss_unlisted(node: Node, listed: set[tuple[str, int]]) -> None:
    known = Pod.objects.filter(node=node, in_inventory=True).exclude(state__in=("ended", "failed"))
    for pod in known.select_related("run__job", "node"):
        if (str(pod.run_id), pod.index) in listed:
            continue
        if pod.run.state == "ended":
            move_if(pod, "ended", "removed", ended_at=timezone.now())
        elif pod.state in POD_LIVE:
            lose_pod(pod, f"{node.name} does not have it any more")


def _close_done(node: Node, reports: dict[tuple[str, int], Any], now: datetime.datetime) -> None:
    """Commands whose effect this inventory shows; it must surely be younger than the command."""
    before = now - datetime.timedelta(seconds=2 * environment().heartbeat_s)
    rows = Command.objects.filter(node=node, done_at=None, sent_at__lt=before)
    for row in rows.filter(kind__in=("end_pod", "freeze_pod", "thaw_pod")):
        report = reports.get((row.body["run"], row.body["pod"]))
        if row.kind == "end_pod" and report is None:
            _note_gone(row, now)
        elif row.kind != "end_pod" and (report is None or report["state"] == SHOWS[row.kind]):
            close(row.key, "seen")


SHOWS = {"freeze_pod": "suspended", "thaw_pod": "running"}


def _note_gone(row: Command, now: datetime.datetime) -> None:
    close(row.key, "gone")
    pods = Pod.objects.filter(run_id=row.body["run"], index=row.body["pod"])
    pod = pods.select_related("run__job", "node").first()
    if pod is not None:
        move_if(pod, "ended", "removed", ended_at=now)


def record_exec(node: Node, opened: dict[str, Any]) -> None:
    """Output of a command that a user ran in a pod, kept with the command that asked for it."""
    body = opened["body"]
    row = Command.objects.filter(key=f"exec:{body['id']}", node=node).first()
    if row is None:
        raise ValueError("nobody asked for this")
    answer = {"exit_status": body.get("exit_status"), "output": str(body.get("output") or "")[:1_000_000]}
    Command.objects.filter(pk=row.pk).update(body=row.body | {"answer": answer}, done_at=timezone.now(), outcome="done")
