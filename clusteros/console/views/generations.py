"""Buttons and dialogs of generations: take, roll back (with what is lost, in words), pin, delete."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse

from checkpoints import services
from checkpoints.models import Generation
from clusteros.console import queries
from clusteros.console.views.base import SignedIn, action, is_part, page
from clusteros.core.problems import Problem, invalid, not_found
from jobs.models import Job


def _job_url(job: Job) -> str:
    return reverse("console:job", args=[job.number])


@action
def checkpoint(request: SignedIn, number: int) -> tuple[str, str]:
    job = queries.job_of(request.user, number)
    taken = services.take_generation(job, acting_user=request.user)
    return f"Generation {taken.number} is being taken; the job runs on.", _job_url(job)


def _generation(request: SignedIn, number: int, generation: int) -> tuple[Job, Generation]:
    job = queries.job_of(request.user, number)
    found = Generation.objects.filter(job=job, number=generation).first()
    if found is None:
        raise not_found(f"generation {generation} of job {number}")
    return job, found


@page
def rollback_dialog(request: SignedIn, number: int, generation: int) -> HttpResponse:
    """The plan of a dry run: where it would run, what would be lost, what was checked."""
    job, found = _generation(request, number, generation)
    wanted = {name: value for name, value in request.GET.items() if name.startswith("pod-") and value}
    context: dict[str, Any] = {"job": job, "generation": found, "nodes": queries.nodes_for(request.user), "part": "console/confirm/rollback.html"}
    try:
        context["plan"] = services.plan_rollback(job, found.number, _placement(wanted, job.pods))
    except Problem as refusal:
        context["refusal"] = refusal.detail
    return render(request, "console/confirm/page.html", context | {"is_part": is_part(request)})


def _placement(asked: Any, pods: int) -> dict[int, str]:
    """pod-0=n1&pod-1=n2: a wish for some pods, none for the others."""
    wished = {pod: asked.get(f"pod-{pod}", "") for pod in range(pods)}
    if any(len(name) > 63 for name in wished.values()):
        raise invalid("placement", "not a node's name")
    return {pod: name for pod, name in wished.items() if name}


@action
def rollback(request: SignedIn, number: int, generation: int) -> tuple[str, str]:
    job, found = _generation(request, number, generation)
    services.rollback_job(job, found.number, placement=_placement(request.POST, job.pods), acting_user=request.user)
    return f"Job {job.number} goes back to generation {found.number}.", _job_url(job)


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
