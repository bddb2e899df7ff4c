"""Buttons and dialogs of generations: take, roll back (with what is lost, in words), pin, delete (with what that frees), export, and
which of them are kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse

from checkpoints import services
from checkpoints.downloads import core_response, export_response
from checkpoints.models import Generation
from checkpoints.services.freeing import job_store
from checkpoints.services.plans import Foresight
from clusteros.console import machines, queries
from clusteros.console.forms import RetentionForm
from clusteros.console.views.base import SignedIn, action, is_part, page
from clusteros.core.problems import Problem
from clusteros.words import count_words
from jobs.models import Job
from jobs.services.submit import RETENTION

MOST_CHOICES = 24


def _job_url(job: Job) -> str:
    return reverse("console:job", args=[job.number])


@action
def checkpoint(request: SignedIn, number: int) -> tuple[str, str]:
    job = queries.job_of(request.user, number)
    taken = services.take_generation(job, acting_user=request.user)
    return f"Generation {taken.number} is being taken; the job runs on.", _job_url(job)


def _generation(request: SignedIn, number: int, generation: int) -> tuple[Job, Generation]:
    job = queries.job_of(request.user, number)
    return job, services.find_generation(job, generation)


@page
def rollback_dialog(request: SignedIn, number: int, generation: int) -> HttpResponse:
    """The plan of a dry run: where it would run, what would be lost, what was checked."""
    return _plan_dialog(request, number, generation, "rollback", services.plan_resume)


@page
def copy_dialog(request: SignedIn, number: int, generation: int) -> HttpResponse:
    """A new job grown from the generation: where it would run beside what runs now."""
    return _plan_dialog(request, number, generation, "copy", services.plan_copy)


def _plan_dialog(request: SignedIn, number: int, generation: int, verb: str, plan: Callable[..., Foresight]) -> HttpResponse:
    """What would be, without the nodes' own answers: those come when the dialog is there already (?nodes)."""
    job, found = _generation(request, number, generation)
    wished = _placement(request.GET, job.pods)
    part = "console/confirm/checks.html" if "nodes" in request.GET else f"console/confirm/{verb}.html"
    context: dict[str, Any] = {"job": job, "generation": found, "part": part, "is_part": is_part(request)}
    try:
        context["plan"] = planned = plan(job, found, wished)
        if "nodes" in request.GET:
            planned.ask_nodes(found, job.files_policy)
            return render(request, part, context)
    except Problem as refusal:
        context["refusal"] = refusal.detail
    context["name"] = request.GET.get("name") or f"{job.name[:90]} ({found.number})"
    context |= {"difference": services.difference_of(job, found), "asking": urlencode({f"pod-{pod}": name for pod, name in wished.items()})}
    return render(request, "console/confirm/page.html", context | _choices(job, wished))


def _choices(job: Job, wished: dict[str, str]) -> dict[str, Any]:
    """For each pod the nodes that it may be sent to; jobs of very many pods are placed by the command line."""
    if job.pods > MOST_CHOICES:
        return {}
    pods = [(pod, wished.get(str(pod), "")) for pod in range(job.pods)]
    return {"pods": pods, "node_names": machines.names_of_usable_nodes(), "has_wishes": bool(wished)}


def _placement(asked: Any, pods: int) -> dict[str, str]:
    """pod-0=n1&pod-1=n2: a wish for some pods, none for the others."""
    wished = {str(pod): asked.get(f"pod-{pod}", "") for pod in range(pods)}
    return {pod: name for pod, name in wished.items() if name}


@action
def rollback(request: SignedIn, number: int, generation: int) -> tuple[str, str]:
    job, found = _generation(request, number, generation)
    placement, safety = _placement(request.POST, job.pods), _safety(request)
    services.resume_run(job, found, cause="rollback", placement=placement, safety=safety, acting_user=request.user)
    return f"Job {job.number} goes back to generation {found.number}.", _job_url(job)


def _safety(request: SignedIn) -> bool:
    """Ticked, or not asked about at all."""
    return "safety" in request.POST or "safety_asked" not in request.POST


@action
def copy(request: SignedIn, number: int, generation: int) -> tuple[str, str]:
    job, found = _generation(request, number, generation)
    asked = {"name": request.POST.get("name", "").strip(), "hold": "hold" in request.POST}
    made = services.copy_from_generation(
        job, found, asked, placement=_placement(request.POST, job.pods), acting_user=request.user
    )
    return f"Job {made.number} grows from generation {found.number} of job {job.number}.", _job_url(made)


@page
def inside_dialog(request: SignedIn, number: int, generation: int) -> HttpResponse:
    """The processes that the generation holds; each can be had as an ELF core."""
    job, found = _generation(request, number, generation)
    context: dict[str, Any] = {"job": job, "generation": found, "part": "console/confirm/inside.html", "is_part": is_part(request)}
    context["difference"] = services.difference_of(job, found)
    try:
        context["pods"] = services.processes_of(found)
    except Problem as refusal:
        context["refusal"] = refusal.detail
    return render(request, "console/confirm/page.html", context)


@page
def core(request: SignedIn, number: int, generation: int, pod: int, pid: int) -> StreamingHttpResponse:
    _, found = _generation(request, number, generation)
    try:
        return core_response(found, pod, pid)
    except Problem as refusal:
        raise Http404(refusal.detail) from refusal


@page
def export(request: SignedIn, number: int, generation: int) -> StreamingHttpResponse:
    """The whole generation as a file for a shelf outside the cluster."""
    _, found = _generation(request, number, generation)
    try:
        return export_response(found)
    except Problem as refusal:
        raise Http404(refusal.detail) from refusal


@action
def pin(request: SignedIn, number: int, generation: int) -> tuple[str, str]:
    job, found = _generation(request, number, generation)
    pinned = request.POST.get("pinned") == "1"
    services.pin_generation(found, pinned, acting_user=request.user)
    return f"Generation {found.number} {'is kept until you unpin it' if pinned else 'is left to the policy again'}.", _job_url(job)


@page
def delete_dialog(request: SignedIn, number: int, generation: int) -> HttpResponse:
    job, found = _generation(request, number, generation)
    context = {"job": job, "generation": found, "part": "console/confirm/delete.html", "is_part": is_part(request)}
    return render(request, "console/confirm/page.html", context)


@action
def delete(request: SignedIn, number: int, generation: int) -> tuple[str, str]:
    job, found = _generation(request, number, generation)
    services.delete_generation(found, acting_user=request.user)
    return f"Generation {found.number} is deleted.", _job_url(job)


@page
def freed(request: SignedIn, number: int, generation: int) -> HttpResponse:
    """What a removal would give back, in words; the nodes are asked, so it comes after the question itself."""
    job, found = _generation(request, number, generation)
    told = job_store(job)
    frees = next((row["frees"] for row in told["generations"] if row["number"] == found.number), 0)
    context = {"bytes": None if told["words"] and not frees else frees, "words": told["words"]}
    return render(request, "console/confirm/freed.html", context)


@page
def store_dialog(request: SignedIn, number: int) -> HttpResponse:
    """What each generation of a job takes, and what its removal would give back."""
    job = queries.job_of(request.user, number)
    told = job_store(job)
    for row in told["generations"]:
        row["taken"] = datetime.fromisoformat(row["taken_at"])
    context = {"job": job, "store": told, "part": "console/confirm/store.html", "is_part": is_part(request)}
    return render(request, "console/confirm/page.html", context)


@page
def retention_dialog(request: SignedIn, number: int) -> HttpResponse:
    """Which generations a job keeps; with other figures in the query, what those would remove."""
    job = queries.job_of(request.user, number)
    present = {name: getattr(job, name) for name in RETENTION}
    form = RetentionForm(request.GET if "keep" in request.GET else present)
    context = {"job": job, "form": form, "part": "console/confirm/retention.html", "is_part": is_part(request)}
    if form.is_valid():
        context["told"] = services.change_retention(job, form.cleaned_data, dry_run=True)
        context["same"] = form.cleaned_data == present
    return render(request, "console/confirm/page.html", context)


@action
def retention(request: SignedIn, number: int) -> tuple[str, str]:
    job = queries.job_of(request.user, number)
    form = RetentionForm(request.POST)
    if not form.is_valid():
        name, errors = next(iter(form.errors.items()))
        raise Problem("INVALID", f"{form.fields[name].label}: {errors[0]}", field=name)
    told = services.change_retention(job, form.cleaned_data, acting_user=request.user)
    gone = f"; {count_words(len(told['removes']), 'generation')} removed" if told["removes"] else ""
    return f"Of job {job.number} {told['words']} are kept{gone}.", _job_url(job)
