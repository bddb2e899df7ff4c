"""The list of jobs, and the form that submits one."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from clusteros.console import machines, queries, verbs
from clusteros.console.beginnings import TEMPLATES, initial_of, template_named
from clusteros.console.forms import SubmitForm
from clusteros.console.views.base import SignedIn, action, page
from clusteros.core.problems import Problem
from clusteros.words import count_words
from jobs.models import JOB_GRAPH, Job
from jobs.services import foresee, parse_indexes, submit_array, submit_job
from jobs.services.submit import RETENTION, JobRequest, copy_files

PAGE_JOBS = 50
MOST_TICKED = 500
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
    before, array = _number(asked.get("before", "")), _number(asked.get("array", ""))
    wanted = queries.Wanted(state, asked.get("q", "").strip()[:100], _owner(request), array, before)
    found, more = queries.jobs_list(request.user, wanted, PAGE_JOBS)
    return {
        "jobs": found, "more": more, "state": state, "q": wanted.text, "owner": asked.get("owner", ""), "array": array,
        "states": JOB_GRAPH.states, "before": before, "query": _query(request), "tickable": True,
    }  # fmt: skip


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 18 else None


def _owner(request: SignedIn) -> str:
    asked = request.GET.get("owner", "").strip()[:150]
    return request.user.username if asked == "me" else asked


def _query(request: SignedIn) -> str:
    """The filter as it is, for links to other pages of the list."""
    kept = request.GET.copy()
    kept.pop("before", None)
    return kept.urlencode()


@page
@require_http_methods(["GET", "POST"])
def submit(request: SignedIn) -> HttpResponse:
    """The form: empty, begun with a template or a former job (?template=, ?from=), tried ("dry") or submitted."""
    former = _former(request)
    form = SubmitForm(request.POST or None, request.FILES or None, initial=_initial(request, former))
    context: dict[str, Any] = {"form": form, "former": former, "room": machines.largest_node(), "templates": TEMPLATES}
    if request.method == "POST" and form.is_valid():
        try:
            if "dry" in request.POST:
                context["foresight"] = foresee(request.user, _request_of(form))
            else:
                return _submitted(request, form, former)
        except Problem as refusal:
            _say_at_field(form, refusal)
    return render(request, "console/submit.html", context, status=422 if form.errors else 200)


def _former(request: SignedIn) -> Job | None:
    number = request.POST.get("from") or request.GET.get("from", "")
    return queries.job_of(request.user, int(number)) if number.isdecimal() and len(number) < 18 else None


def _initial(request: SignedIn, former: Job | None) -> dict[str, Any]:
    return initial_of(former) if former else template_named(request.GET.get("template", ""))


def _submitted(request: SignedIn, form: SubmitForm, former: Job | None) -> HttpResponse:
    asked, array = _request_of(form), form.cleaned_data["array"].strip()
    with transaction.atomic():
        made = submit_array(request.user, asked, parse_indexes(array)) if array else [submit_job(request.user, asked)]
        for job in made if former and "files" in request.POST else []:
            copy_files(former, job)  # type: ignore[arg-type]
    if array:
        messages.success(request, f"Array {made[0].number} is submitted: {len(made)} jobs.")
        return redirect(f"{reverse('console:jobs')}?array={made[0].number}&state=")
    messages.success(request, f"Job {made[0].number} is submitted.")
    return redirect("console:job", made[0].number)


def _request_of(form: SubmitForm) -> JobRequest:
    asked = form.cleaned_data
    values = {name: asked[name] for name in ("name", "pods", "ranks_per_pod", "cores_per_rank", *RETENTION, "env", "hold")}
    values |= {"mem_bytes": asked["mem"], "walltime_s": asked["walltime"], "interval_s": asked["interval"]}
    files = {file.name: file.read() for file in asked["uploads"]}
    return JobRequest(**values, **form.program(), files=files)


def _say_at_field(form: SubmitForm, refusal: Problem) -> None:
    """At the field that the refusal names, else on top."""
    named = str(refusal.fields.get("field", ""))
    at = FIELD_OF.get(named, named)
    words = refusal.detail.removeprefix(f"{named}: ")
    form.add_error(at if at in form.fields else None, words)


@action
def many(request: SignedIn, verb: str) -> tuple[str, str]:
    """One verb for all jobs that are ticked; what is refused is said beside what is done."""
    numbers = [int(text) for text in request.POST.getlist("job")[:MOST_TICKED] if text.isdecimal() and len(text) < 18]
    if not numbers:
        raise Problem("INVALID", "tick the jobs first", field="job")
    asked, done, refused = verbs.verb_named(verb), 0, []
    for job in queries.jobs_of(request.user).filter(number__in=numbers).order_by("number"):
        try:
            asked.do(job, acting_user=request.user)
            done += 1
        except Problem as refusal:
            refused.append(refusal.detail)
    said = f"{count_words(done, 'job')}: {asked.label.lower()}."
    if refused:
        said += f" {len(refused)} refused: {'; '.join(refused[:3])}{'; …' if len(refused) > 3 else ''}"
    if not done:
        raise Problem("CONFLICT", said)
    return said, "console:jobs"
