"""The list of jobs, and the form that submits one."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from clusteros.console import queries
from clusteros.console.forms import SubmitForm
from clusteros.console.views.base import SignedIn, page
from clusteros.core.problems import Problem
from jobs.models import JOB_GRAPH
from jobs.services import submit_job
from jobs.services.submit import JobRequest

PAGE_JOBS = 50
FIELD_OF = {"mem_bytes": "mem", "walltime_s": "walltime", "interval_s": "interval"} | dict.fromkeys(("file", "path", "files"), "uploads")


@page
def jobs(request: SignedIn) -> HttpResponse:
    return render(request, "console/jobs.html", _list(request))


@page
def jobs_part(request: SignedIn) -> HttpResponse:
    return render(request, "console/jobs/list.html", _list(request))


def _list(request: SignedIn) -> dict[str, Any]:
    asked = request.GET
    state = asked.get("state", "live") if asked.get("state", "live") in ("", "live", *JOB_GRAPH.states) else "live"
    before = int(asked["before"]) if asked.get("before", "").isdecimal() and len(asked["before"]) < 18 else None
    text = asked.get("q", "").strip()[:100]
    found, more = queries.jobs_list(request.user, state, text, before, PAGE_JOBS)
    return {"jobs": found, "more": more, "state": state, "q": text, "states": JOB_GRAPH.states, "before": before}


@page
@require_http_methods(["GET", "POST"])
def submit(request: SignedIn) -> HttpResponse:
    form = SubmitForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            job = submit_job(request.user, _request_of(form))
        except Problem as refusal:
            _say_at_field(form, refusal)
        else:
            messages.success(request, f"Job {job.number} is submitted.")
            return redirect("console:job", job.number)
    return render(request, "console/submit.html", {"form": form, "room": queries.largest_node()}, status=422 if form.errors else 200)


def _request_of(form: SubmitForm) -> JobRequest:
    asked = form.cleaned_data
    values = {name: asked[name] for name in ("name", "pods", "ranks_per_pod", "cores_per_rank", "keep", "env")}
    values |= {"mem_bytes": asked["mem"], "walltime_s": asked["walltime"], "interval_s": asked["interval"]}
    files = {file.name: file.read() for file in asked["uploads"]}
    return JobRequest(**values, **form.program(), files=files)


def _say_at_field(form: SubmitForm, refusal: Problem) -> None:
    """At the field that the refusal names, else on top."""
    named = str(refusal.fields.get("field", ""))
    at = FIELD_OF.get(named, named)
    words = refusal.detail.removeprefix(f"{named}: ")
    form.add_error(at if at in form.fields else None, words)
