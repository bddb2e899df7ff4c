"""What the timeline of a job shows, read from its rows: states from the event log, runs, generations, losses, ways back."""

from __future__ import annotations

import datetime

from django.utils import timezone

from checkpoints.models import Generation, Resume
from clusteros.console import timeline
from clusteros.core.models import Event
from jobs.models import JOB_GRAPH, Job, Run

MOST = 400
"""Of each kind the newest: a job of many days has more generations than a picture can show."""
GENERATION_LOOK = {"complete": "good", "failed": "bad", "deleted": "gone"}


def life_of(job: Job) -> timeline.Picture:
    end = job.ended_at if job.over and job.ended_at else timezone.now()
    lanes = [
        ("job", timeline.states(_moves(job), end), []),
        ("runs", _runs(job), _losses(job)),
        ("ways back", _resumes(job), []),
        ("generations", [], _generations(job)),
    ]
    return timeline.draw(lanes, job.submitted_at, max(end, job.submitted_at))


def _moves(job: Job) -> list[tuple[datetime.datetime, str]]:
    kinds = [f"job.{state}" for state in JOB_GRAPH.states]
    rows = Event.objects.filter(job=job.pk, kind__in=kinds).order_by("-id").values_list("at", "new")[:MOST]
    return [(at, new) for at, new in reversed(rows) if new]


def _runs(job: Job) -> list[timeline.Span]:
    runs = Run.objects.filter(job=job).order_by("-epoch")[:MOST]
    return [timeline.Span(_run_words(run), run.started_at or run.created_at, run.ended_at, _run_look(run)) for run in reversed(runs)]


def _run_words(run: Run) -> str:
    origin = f", from generation {run.from_generation}" if run.from_generation is not None else ""
    return f"run {run.epoch}{origin}"


def _run_look(run: Run) -> str:
    return "good" if run.state != "ended" else "past"


def _losses(job: Job) -> list[tuple[datetime.datetime, str, str]]:
    rows = Event.objects.filter(job=job.pk, kind="pod.lost").order_by("-id").values_list("at", "pod", "node", "words")[:MOST]
    return [(at, "bad", f"pod {pod} on {node} is lost: {words}") for at, pod, node, words in rows]


def _resumes(job: Job) -> list[timeline.Span]:
    rows = Resume.objects.filter(job=job).select_related("generation").order_by("-asked_at")[:MOST]
    return [timeline.Span(_resume_words(row), row.asked_at, row.ended_at, _resume_look(row)) for row in reversed(rows)]


def _resume_words(row: Resume) -> str:
    where = f" to generation {row.generation.number}" if row.generation else ""
    return f"{row.cause}{where}: {row.state}"


def _resume_look(row: Resume) -> str:
    return "bad" if row.state == "failed" else "busy"


def _generations(job: Job) -> list[tuple[datetime.datetime, str, str]]:
    rows = Generation.objects.filter(job=job).order_by("-number").values_list("taken_at", "number", "state", "pinned")[:MOST]
    marks = [(at, GENERATION_LOOK.get(state, "busy"), number, state, pinned) for at, number, state, pinned in reversed(rows)]
    return [
        (at, "pin" if pinned and look == "good" else look, f"generation {number}: {state}{', pinned' if pinned else ''}")
        for at, look, number, state, pinned in marks
    ]
