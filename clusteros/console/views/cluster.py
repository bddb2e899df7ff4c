"""The first page: every node as a tile, what runs and waits, what happened last."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render

from clusteros.console import queries
from clusteros.console.views.base import SignedIn, page

SHOWN_JOBS = 8
SHOWN_EVENTS = 14


def _nodes(request: SignedIn) -> dict[str, Any]:
    nodes = queries.nodes_for(request.user)
    return {"nodes": nodes, "figures": queries.figures(request.user, nodes)}


def _jobs(request: SignedIn) -> dict[str, Any]:
    jobs, more = queries.jobs_list(request.user, queries.Wanted(), SHOWN_JOBS)
    return {"jobs": jobs, "more_jobs": more}


def _events(request: SignedIn) -> dict[str, Any]:
    return {"events": queries.events_for(request.user, SHOWN_EVENTS)}


PARTS = {"nodes": _nodes, "jobs": _jobs, "events": _events}


@page
def cluster(request: SignedIn) -> HttpResponse:
    context: dict[str, Any] = {}
    for part in PARTS.values():
        context |= part(request)
    return render(request, "console/cluster.html", context)


@page
def cluster_part(request: SignedIn, part: str) -> HttpResponse:
    if part not in PARTS:
        raise Http404(f"the cluster page has no part {part}")
    return render(request, f"console/cluster/{part}.html", PARTS[part](request))
