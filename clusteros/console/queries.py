"""What pages show, read from rows: each function is one page's need in a fixed number of queries. It changes nothing.

A user sees own jobs; an administrator all. Nodes are everybody's, the names of others' jobs on them are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.utils import timezone

from checkpoints.models import Generation, Resume
from clusteros.core.models import Event
from clusteros.core.problems import not_found
from jobs.models import Job, OutputFile, Run

SHOWN_FILES = 500
WAITING = ("queued", "held")
MOVING = ("starting", "running", "suspended", "restoring")


def jobs_of(user: User) -> QuerySet[Job]:
    jobs = Job.objects.select_related("owner", "copied_from")
    return jobs if user.is_staff else jobs.filter(owner=user)


def job_of(user: User, number: int) -> Job:
    job = jobs_of(user).filter(number=number).first()
    if job is None:
        raise not_found(f"job {number}")
    return job


def job_figures(user: User) -> dict[str, Any]:
    """Jobs and generations in the row of numbers on top of the cluster page."""
    live = jobs_of(user).filter(state__in=(*MOVING, *WAITING))
    jobs = live.aggregate(moving=Count("id", Q(state__in=MOVING)), waiting=Count("id", Q(state__in=WAITING)))
    kept = Generation.objects.filter(state="complete")
    kept = kept if user.is_staff else kept.filter(job__owner=user)
    told = kept.aggregate(number=Count("id"), bytes=Sum("bytes_new"))
    return {"generations": told["number"], "generation_bytes": told["bytes"] or 0, **jobs}


def events_for(user: User, limit: int, **which: Any) -> list[Event]:
    """The newest first; the steps of single snapshots are left to REST."""
    events = Event.objects.filter(**which).exclude(kind__startswith="snapshot.")
    if not user.is_staff:
        events = events.filter(Q(owner_id=user.id) | Q(owner_id=None))
    return list(events.order_by("-id")[:limit])


def events_page(user: User, noun: str, text: str, by_hand: bool, before: int | None, limit: int) -> tuple[list[Event], int | None]:
    """(a page of events, newest first; the id before which the next page begins)."""
    events = Event.objects.exclude(kind__startswith="snapshot.")
    if not user.is_staff:
        events = events.filter(Q(owner_id=user.id) | Q(owner_id=None))
    if noun:
        events = events.filter(kind__startswith=f"{noun}.")
    if by_hand:
        events = events.exclude(actor="")
    if text:
        events = events.filter(_event_matches(text))
    if before is not None:
        events = events.filter(id__lt=before)
    found = list(events.order_by("-id")[: limit + 1])
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def _event_matches(text: str) -> Q:
    matches = Q(words__icontains=text) | Q(kind__icontains=text) | Q(node=text) | Q(actor=text)
    return matches | Q(job_number=int(text)) if text.isdecimal() and len(text) < 16 else matches


@dataclass(frozen=True)
class Wanted:
    """The filter of the list of jobs. `array`: the members of that one; else each array is folded into one row."""

    state: str = "live"
    text: str = ""
    owner: str = ""
    array: int | None = None
    before: int | None = None


def jobs_list(user: User, wanted: Wanted, limit: int) -> tuple[list[Job], int | None]:
    """(a page of jobs, newest first; the number from which the next page goes on). The row of a folded array has
    `members`: how many of it are in which state."""
    matching = _matching(jobs_of(user), wanted)
    rows = matching.filter(array=wanted.array) if wanted.array else _fold(matching, wanted)
    if wanted.before is not None:
        rows = rows.filter(number__lt=wanted.before)
    found = list(rows.order_by("-number")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    _add_last_generations(found)
    add_progress(found)
    if not wanted.array:
        _add_members(found)
    return found, found[-1].number if more else None


def _in_state(jobs: QuerySet[Job], wanted: Wanted) -> QuerySet[Job]:
    if wanted.state == "live":
        return jobs.filter(state__in=(*WAITING, *MOVING))
    return jobs.filter(state=wanted.state) if wanted.state else jobs


def _matching(jobs: QuerySet[Job], wanted: Wanted) -> QuerySet[Job]:
    jobs = _in_state(jobs, wanted)
    if wanted.owner:
        jobs = jobs.filter(owner__username=wanted.owner)
    return jobs.filter(_text_matches(wanted.text)) if wanted.text else jobs


def _fold(jobs: QuerySet[Job], wanted: Wanted) -> QuerySet[Job]:
    """Of each array the first member that matches; its members differ by state alone, not by name or owner."""
    earlier = _in_state(Job.objects.filter(array=OuterRef("array"), number__lt=OuterRef("number")), wanted).order_by()
    return jobs.filter(Q(array=None) | ~Exists(earlier))


def _add_last_generations(jobs: list[Job]) -> None:
    newest = Generation.objects.filter(job__in=jobs, state="complete").order_by("job", "-number").distinct("job")
    found = {job: (number, at) for job, number, at in newest.values_list("job", "number", "taken_at")}
    for job in jobs:
        job.last_number, job.last_taken_at = found.get(job.pk, (None, None))  # type: ignore[attr-defined]


def add_progress(jobs: list[Job]) -> None:
    """`ran_s`: the walltime that each has used, over its rollbacks; `percent` of what it asked for, None without a limit."""
    now = timezone.now()
    newest = {run.job_id: run for run in Run.objects.filter(job__in=jobs, epoch=F("job__epoch"))}  # type: ignore[attr-defined]
    for job in jobs:
        run = newest.get(job.pk)
        ran_s = run.base_s + ((run.ended_at or now) - (run.started_at or now)).total_seconds() if run else 0.0
        percent = min(100, round(100 * ran_s / job.walltime_s)) if job.walltime_s and run else None
        job.ran_s, job.percent = ran_s, percent  # type: ignore[attr-defined]


def _add_members(jobs: list[Job]) -> None:
    arrays = {job.array for job in jobs if job.array}
    counts: dict[int, list[tuple[str, int]]] = {}
    rows = Job.objects.filter(array__in=arrays).order_by().values_list("array", "state").annotate(n=Count("pk"))
    for array, state, number in rows:
        counts.setdefault(array, []).append((state, number))
    for job in jobs:
        job.members = counts.get(job.array or 0, [])  # type: ignore[attr-defined]


def _text_matches(text: str) -> Q:
    matches = Q(name__icontains=text) | Q(owner__username__icontains=text)
    return matches | Q(number=int(text)) if text.isdecimal() and len(text) < 16 else matches


def last_complete(job: Job) -> Generation | None:
    return Generation.objects.filter(job=job, state="complete").order_by("-number").first()


def output_files(job: Job) -> list[OutputFile]:
    """What the newest run that reported any left in its working directory."""
    newest = OutputFile.objects.filter(run__job=job).order_by("-run__epoch").values_list("run", flat=True)[:1]
    return list(OutputFile.objects.filter(run__in=list(newest)).order_by("path", "pod")[:SHOWN_FILES])


def output_file(job: Job, pod: int, path: str) -> OutputFile:
    found = OutputFile.objects.filter(run__job=job, pod=pod, path=path, uploaded=True).order_by("-run__epoch").first()
    if found is None:
        raise not_found(f"file {path[:80]} of job {job.number}")
    return found


WAY_THERE = ("queued", "starting", "running")
WAY_BACK = {
    "planned": "planning",
    "capturing": "taking a generation",
    "fetching": "fetching the images",
    "safety": "keeping the present as a generation",
    "ending": "ending the old pods",
    "restoring": "restoring",
}


@dataclass(frozen=True)
class Step:
    words: str
    look: str


def steps_of(job: Job, resume: Resume | None) -> list[Step]:
    """The way of a job, with where it is now; the phases of its way back while it is on one."""
    if resume is not None and resume.open:
        return _steps([*WAY_BACK.values(), "running"], list(WAY_BACK).index(resume.state), "now")
    end = job.state if job.over else "completed"
    way = [*WAY_THERE, end]
    if job.over:
        return _steps(way, len(way) - 1, "good" if job.state == "completed" else "bad")
    place = {"held": 0, "restoring": 1, "suspended": 2}.get(job.state)
    return _steps(way, way.index(job.state) if place is None else place, "now")


def _steps(words: list[str], at: int, look: str) -> list[Step]:
    return [Step(word, look if place == at else "done" if place < at else "") for place, word in enumerate(words)]
