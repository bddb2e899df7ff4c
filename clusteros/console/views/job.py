"""One job: its state, pods, tree of generations, log, files and events; and the buttons that move it."""

from __future__ import annotations

from typing import Any

from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse

from clusteros import ranks
from clusteros.console import history, log, queries, verbs
from clusteros.console.life import life_of
from clusteros.console.pictures import as_png, may_be_picture
from clusteros.console.views.base import SignedIn, action, is_part, page
from clusteros.core.problems import Problem
from jobs.blobs import open_blob
from jobs.models import Job
from jobs.services.logs import read_stream

SHOWN_EVENTS = 120
MOST_PICTURES = 24
STREAMS = ("", "stdout", "stderr")


def _head(request: SignedIn, job: Job) -> dict[str, Any]:
    resume = job.resumes.order_by("-asked_at").select_related("generation").first()  # type: ignore[attr-defined]
    newest = job.generations.order_by("-number").first()  # type: ignore[attr-defined]
    queries.add_progress([job])
    return {
        "resume": resume,
        "newest": newest,
        "last": queries.last_complete(job),
        "run": job.current_run,
        "steps": queries.steps_of(job, resume),
        "verbs": verbs.offered(job),
    }


def _pods(request: SignedIn, job: Job) -> dict[str, Any]:
    run = job.current_run
    return {"run": run, "pods": list(run.pods.select_related("node")) if run else []}


def _tree(request: SignedIn, job: Job) -> dict[str, Any]:
    return {"tree": history.tree_of(job, job.current_run)}


def _life(request: SignedIn, job: Job) -> dict[str, Any]:
    return {"life": life_of(job)}


def _events(request: SignedIn, job: Job) -> dict[str, Any]:
    return {"events": queries.events_for(request.user, SHOWN_EVENTS, job=job.id)}


def _files(request: SignedIn, job: Job) -> dict[str, Any]:
    files = queries.output_files(job)
    pictures = [file for file in files if file.uploaded and may_be_picture(file.path, file.size_bytes)]
    return {"files": files, "pictures": pictures[:MOST_PICTURES], "inputs": list(job.job_files.all())}  # type: ignore[attr-defined]


PARTS = {"head": _head, "pods": _pods, "tree": _tree, "life": _life, "events": _events, "files": _files}


@page
def job_page(request: SignedIn, number: int) -> HttpResponse:
    job = queries.job_of(request.user, number)
    context: dict[str, Any] = {"job": job} | _log(request, job)
    for part in PARTS.values():
        context |= part(request, job)
    return render(request, "console/job.html", context)


@page
def job_part(request: SignedIn, number: int, part: str) -> HttpResponse:
    if part not in PARTS:
        raise Http404(f"the job page has no part {part}")
    job = queries.job_of(request.user, number)
    return render(request, f"console/job/{part}.html", {"job": job} | PARTS[part](request, job))


def _log(request: SignedIn, job: Job) -> dict[str, Any]:
    """The log from the page's cursor on; pod, stream and cursor come from the address."""
    asked = request.GET
    pod, rank, after, at = (_number(asked.get(name, "")) for name in ("pod", "rank", "after", "at"))
    stream = asked.get("stream", "") if asked.get("stream") in STREAMS else ""
    tail = log.read_tail(job, after, asked.get("run", ""), at, pod, stream, rank)
    shown = {"log_pod": pod, "log_rank": rank, "log_stream": stream, "log_first": after is None}
    return {"tail": tail, "rank_labels": ranks.HOW, "all_ranks": job.pods * job.ranks_per_pod, **shown}


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 18 else None


@page
def log_tail(request: SignedIn, number: int) -> HttpResponse:
    job = queries.job_of(request.user, number)
    return render(request, "console/job/log_tail.html", {"job": job} | _log(request, job))


@page
def log_find(request: SignedIn, number: int) -> HttpResponse:
    """The lines of the log that hold a text, the newest last."""
    job = queries.job_of(request.user, number)
    text, pod = request.GET.get("q", "").strip()[:200], _number(request.GET.get("pod", ""))
    found, searched_all = log.find_lines(job, text, pod, request.GET.get("stream", "")) if text else ([], True)
    return render(request, "console/job/log_found.html", {"job": job, "found": found, "q": text, "searched_all": searched_all})


@page
def log_text(request: SignedIn, number: int) -> StreamingHttpResponse:
    """One stream of one pod from its beginning, as plain text; pod 0's output unless asked otherwise."""
    job = queries.job_of(request.user, number)
    pod = _number(request.GET.get("pod", "")) or 0
    stream = "stderr" if request.GET.get("stream") == "stderr" else "stdout"
    return StreamingHttpResponse(read_stream(job, pod, stream), content_type="text/plain; charset=utf-8")


@page
def output_file(request: SignedIn, number: int, pod: int, path: str) -> FileResponse:
    """A file that the job left, always as a download: what a job wrote is never run as a page of ours."""
    job = queries.job_of(request.user, number)
    file = queries.output_file(job, pod, path)
    return FileResponse(open_blob(file.sha256), as_attachment=True, filename=path.rsplit("/", 1)[-1])


@page
def picture(request: SignedIn, number: int, pod: int, path: str) -> HttpResponse:
    """A file that is a picture, decoded and made anew."""
    job = queries.job_of(request.user, number)
    file = queries.output_file(job, pod, path)
    if not may_be_picture(file.path, file.size_bytes):
        raise Http404("this file is not a picture that can be shown")
    try:
        with open_blob(file.sha256) as content:
            shown = as_png(content, small="small" in request.GET)
    except Problem as refusal:
        raise Http404(refusal.detail) from refusal
    answer = HttpResponse(shown, content_type="image/png")
    answer["Cache-Control"] = "private, max-age=3600"
    return answer


@page
def cancel_dialog(request: SignedIn, number: int) -> HttpResponse:
    job = queries.job_of(request.user, number)
    context = {"part": "console/confirm/cancel.html", "job": job, "last": queries.last_complete(job), "is_part": is_part(request)}
    return render(request, "console/confirm/page.html", context)


@action
def do_verb(request: SignedIn, number: int, verb: str) -> tuple[str, str]:
    job = queries.job_of(request.user, number)
    asked = verbs.verb_named(verb)
    asked.do(job, acting_user=request.user)
    return f"Job {job.number} {asked.said}.", reverse("console:job", args=[job.number])
