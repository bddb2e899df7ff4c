"""What the clock does at every tick: small passes, each of which compares what should be with what is and does what is
missing. All may be run twice, at any moment, after any crash.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, F, Max, Q
from django.utils import timezone

from checkpoints.barriers import client, cut_prefix, restore_prefix, set_verdict
from checkpoints.clock.draining import advance_drains
from checkpoints.clock.queueing import place_jobs, start_placed
from checkpoints.models import RESUME_OPEN, Generation, Resume, Snapshot
from checkpoints.services.figures import SAMPLE_EVERY_S, forget_samples, take_node_samples, take_sample
from checkpoints.services.keeping import apply_retention
from checkpoints.services.moving import broken_runs, finish_holds, recover_job
from checkpoints.services.replicas import ask_missing_replicas, forget_lost_fetches, is_restorable, remove_unneeded_images
from checkpoints.services.resuming import advance_resume
from checkpoints.services.sharing import share_missing_images, take_out_unneeded_images
from checkpoints.services.taking import complete_generation, decide_cut, fail_generation, take_generation
from clusteros.core.connections import refresh_connections
from clusteros.core.dispatch import send_now
from clusteros.core.events import record_event
from clusteros.core.models import IdempotencyKey
from clusteros.core.problems import Problem
from clusteros.core.states import lock
from clusteros.environment import environment
from jobs.models import POD_LIVE, Job, Pod, Run
from jobs.services.ending import conclude_run, end_finished_pods, finish_job, lose_pod
from nodes.models import Node, NodeReport
from nodes.outbox import forget_old, resend_due
from nodes.services import lose_node

LOG = logging.getLogger(__name__)
HINT_AGAIN_S = 2.0
SLOW_EVERY_S = 2.0
KEEP_HOUSE_EVERY_S = 60.0
VERDICT_REPEAT_S = 60.0
FIRST_WORD_S = 120.0
"""A machine that joined may take this long until its service sends the first heartbeat."""


@dataclass
class Clock:
    """What the leader remembers between ticks; all of it may be forgotten."""

    leader_since: datetime.datetime
    listening_since: datetime.datetime | None = None
    hinted: dict[str, datetime.datetime] | None = None
    slow_at: datetime.datetime | None = None
    house_at: datetime.datetime | None = None
    sampled_at: datetime.datetime | None = None

    def may_judge(self, now: datetime.datetime) -> bool:
        """Silence of a node means something only when we led, and heard others, for as long as it was silent."""
        patience = datetime.timedelta(seconds=environment().lost_after_s)
        return self.listening_since is not None and now - max(self.leader_since, self.listening_since) > patience


Pass = Callable[[Clock, datetime.datetime], object]


def tick(clock: Clock) -> None:
    refresh_connections()
    now = timezone.now()
    passes = list(EVERY_TICK)
    if clock.slow_at is None or (now - clock.slow_at).total_seconds() > SLOW_EVERY_S:
        clock.slow_at = now
        passes += SLOW
    if clock.house_at is None or (now - clock.house_at).total_seconds() > KEEP_HOUSE_EVERY_S:
        clock.house_at = now
        passes.append(keep_house)
    for one in passes:
        _run(one, clock, now)


def _run(one: Pass, clock: Clock, now: datetime.datetime) -> None:
    """A pass that fails does not keep the others from running; the next tick tries it again."""
    try:
        one(clock, now)
    except Exception:
        LOG.exception("pass %s failed", getattr(one, "__name__", one))
        refresh_connections()


# ---- nodes


def note_reception(clock: Clock, now: datetime.datetime) -> None:
    """Are reports coming in at all? When nobody is heard, it is we who are deaf (a dead control worker, no Redis)."""
    newest = Node.objects.exclude(state="lost").aggregate(at=Max("last_heartbeat"))["at"]
    deaf_after = datetime.timedelta(seconds=max(3 * environment().heartbeat_s, environment().lost_after_s * 0.6))
    if newest is None or now - newest > deaf_after:
        clock.listening_since = None
    elif clock.listening_since is None:
        clock.listening_since = now


def lose_silent_nodes(clock: Clock, now: datetime.datetime) -> None:
    if not clock.may_judge(now):
        return
    before = now - datetime.timedelta(seconds=environment().lost_after_s)
    never = Q(last_heartbeat=None, joined_at__lt=now - datetime.timedelta(seconds=FIRST_WORD_S))
    silent = Node.objects.filter(Q(last_heartbeat__lt=before) | never).exclude(state="lost")
    for node in silent:
        silence_s = (now - node.last_heartbeat).total_seconds() if node.last_heartbeat else 0
        lose_node(node, f"no heartbeat for {silence_s:.1f} s")


def lose_pods_of_lost_nodes(clock: Clock, now: datetime.datetime) -> None:
    pods = Pod.objects.filter(state__in=POD_LIVE, node__state="lost").select_related("run__job", "node")
    for pod in pods.exclude(run__state="ended"):
        lose_pod(pod, f"node {pod.node.name} is lost")


# ---- runs and resumes


def judge_ended_commands(clock: Clock, now: datetime.datetime) -> None:
    runs = Run.objects.filter(state__in=("starting", "running")).exclude(command_ended_at=None)
    for run in runs.select_related("job__owner"):
        conclude_run(run, now)


def recover_broken(clock: Clock, now: datetime.datetime) -> None:
    for run in broken_runs():
        recover_job(run)


def advance_resumes(clock: Clock, now: datetime.datetime) -> None:
    for pk in list(Resume.objects.filter(state__in=RESUME_OPEN).values_list("pk", flat=True)):
        while advance_resume(pk, timezone.now()):
            pass


def settle_holds(clock: Clock, now: datetime.datetime) -> None:
    finish_holds()


def enforce_walltime(clock: Clock, now: datetime.datetime) -> None:
    limited = Run.objects.filter(state="running", job__state="running", job__walltime_s__isnull=False)
    for run in limited.filter(epoch=F("job__epoch")).select_related("job__owner"):
        ran_s = run.base_s + (now - (run.started_at or now)).total_seconds()
        if ran_s > (run.job.walltime_s or 0):
            _end_overlong(run.job, ran_s)


@transaction.atomic
def _end_overlong(job: Job, ran_s: float) -> None:
    if lock(job).state == "running":
        finish_job(job, "failed", f"ran {ran_s:.0f} s, its walltime is {job.walltime_s} s")


# ---- generations


def take_due_generations(clock: Clock, now: datetime.datetime) -> None:
    due = Job.objects.filter(state="running", interval_s__isnull=False).exclude(checkpointable=False)
    due = due.exclude(resumes__state__in=RESUME_OPEN)
    for job in due.filter(Q(next_generation_at__lte=now) | Q(next_generation_at=None)):
        _take_due(job, now)


def _take_due(job: Job, now: datetime.datetime) -> None:
    following = now + datetime.timedelta(seconds=job.interval_s or 60)
    if job.next_generation_at is None:
        Job.objects.filter(pk=job.pk).update(next_generation_at=following)
        return
    try:
        take_generation(job, cause="interval")
    except Problem as problem:
        if problem.code.name == "NO_SPACE":
            record_event("generation.refused", problem.detail, **job.event_refs())
        again = min(following, now + datetime.timedelta(seconds=1)) if problem.code.retry else following
        Job.objects.filter(pk=job.pk).update(next_generation_at=again)


def watch_cuts(clock: Clock, now: datetime.datetime) -> None:
    """Cuts without a decision get a watcher; those past their deadline, or without a living run, are given up."""
    for generation in Generation.objects.filter(state="taking").select_related("job__owner", "run"):
        run = generation.run
        if now > generation.deadline:
            decide_cut(generation, "abort", "not every pod was captured in time")
        elif run is None or run.state == "ended" or run.epoch != generation.job.epoch:
            decide_cut(generation, "abort", "the run ended before the cut")
        elif run.pods.filter(state__in=("lost", "failed")).exists():  # type: ignore[attr-defined]
            decide_cut(generation, "abort", "a pod was lost during the cut")
        else:
            _hint(clock, now, "control.coordinate_cut", str(generation.pk))


def _is_lost(snapshot: Snapshot) -> bool:
    """Its node is lost, and nobody else holds what it stored."""
    return snapshot.node.state == "lost" and not (snapshot.state == "stored" and is_restorable(snapshot.digest))


def watch_storing(clock: Clock, now: datetime.datetime) -> None:
    for generation in Generation.objects.filter(state="storing").select_related("job__owner", "run"):
        if complete_generation(generation):
            continue
        lost = [s for s in generation.snapshots.select_related("node") if _is_lost(s)]  # type: ignore[attr-defined]
        if lost:
            fail_generation(generation, f"{lost[0].node.name} was lost before pod {lost[0].pod} was stored elsewhere", code="LOST")
        elif now > generation.deadline:
            fail_generation(generation, "it was not stored in time", code="BUSY")


def watch_restores(clock: Clock, now: datetime.datetime) -> None:
    for resume in Resume.objects.filter(state="restoring", decision=None):
        _hint(clock, now, "control.coordinate_restore", str(resume.pk))


def _hint(clock: Clock, now: datetime.datetime, task: str, argument: str) -> None:
    clock.hinted = {} if clock.hinted is None else clock.hinted
    last = clock.hinted.get(argument)
    if last is None or (now - last).total_seconds() > HINT_AGAIN_S:
        clock.hinted[argument] = now
        if last is not None:
            send_now(task, argument, queue="control")


def repeat_verdicts(clock: Clock, now: datetime.datetime) -> None:
    """Redis may have been emptied after the verdict was set: those who still wait hear it again."""
    since = now - datetime.timedelta(seconds=VERDICT_REPEAT_S)
    cuts = Generation.objects.exclude(decision=None).filter(taken_at__gte=since)
    waiting = cuts.filter(snapshots__state__in=("asked", "prepared", "captured")).distinct()
    restores = Resume.objects.exclude(decision=None).filter(phase_at__gte=since).exclude(run=None)
    verdicts = [(cut_prefix(g.pk, g.epoch), g.decision) for g in waiting]
    verdicts += [(restore_prefix(r.run.pk, r.run.epoch), r.decision) for r in restores.select_related("run") if r.run]
    if verdicts:
        store = client()
        for prefix, verdict in verdicts:
            set_verdict(store, prefix, verdict or "abort")


def retain(clock: Clock, now: datetime.datetime) -> None:
    jobs = Job.objects.filter(generations__state="complete").annotate(n=Count("generations"))
    for job in jobs.filter(n__gt=F("keep")):
        apply_retention(job)


def look_after_images(clock: Clock, now: datetime.datetime) -> None:
    forget_lost_fetches()
    remove_unneeded_images()
    take_out_unneeded_images(now)


def fetch_replicas(clock: Clock, now: datetime.datetime) -> None:
    """For generations that wait for them to be complete."""
    if Generation.objects.filter(state="storing").exists():
        ask_missing_replicas(now, "storing")


def share_images(clock: Clock, now: datetime.datetime) -> None:
    """Into directories that nodes share, where there are some."""
    share_missing_images(now)


def renew_replicas(clock: Clock, now: datetime.datetime) -> None:
    """Those that were lost with a node are made again."""
    ask_missing_replicas(now, "complete")


# ---- messages and house


def resend_commands(clock: Clock, now: datetime.datetime) -> None:
    resend_due(now)


def end_pods_after_files(clock: Clock, now: datetime.datetime) -> None:
    end_finished_pods(now)


def sample(clock: Clock, now: datetime.datetime) -> None:
    """For the charts."""
    if clock.sampled_at is None or (now - clock.sampled_at).total_seconds() >= SAMPLE_EVERY_S:
        clock.sampled_at = now
        take_sample(now)
        take_node_samples(now)


def keep_house(clock: Clock, now: datetime.datetime) -> None:
    hour_ago = now - datetime.timedelta(hours=1)
    NodeReport.objects.filter(received_at__lt=hour_ago).delete()
    IdempotencyKey.objects.filter(created_at__lt=now - datetime.timedelta(days=2)).delete()
    forget_old(now)
    forget_samples(now)
    clock.hinted = {}


EVERY_TICK: tuple[Pass, ...] = (
    note_reception, lose_silent_nodes, lose_pods_of_lost_nodes, judge_ended_commands, watch_cuts, watch_storing,
    recover_broken, settle_holds, advance_resumes, watch_restores, repeat_verdicts, start_placed, place_jobs,
    take_due_generations, fetch_replicas, share_images, enforce_walltime, resend_commands, end_pods_after_files,
)  # fmt: skip
SLOW: tuple[Pass, ...] = (retain, look_after_images, renew_replicas, advance_drains, sample)
