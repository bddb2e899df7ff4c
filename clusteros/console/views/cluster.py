"""The first page: every node as a tile, what runs and waits, what happened last."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render

from clusteros.console import machines, queries
from clusteros.console.views.base import SignedIn, page

SHOWN_JOBS = 8
SHOWN_EVENTS = 14
MOST_TILES = 16
RANGES = ((1, "1 h"), (6, "6 h"), (24, "1 day"), (168, "7 days"))
CHARTS = (("cores", "Cores"), ("jobs", "Jobs"), ("memory", "Memory"), ("generations", "Generations"))


def _nodes(request: SignedIn) -> dict[str, Any]:
    """A few nodes as tiles with their pods, many as a map of small squares."""
    spots = machines.node_map()
    tiles = machines.nodes_for(request.user) if len(spots) <= MOST_TILES else []
    return {"spots": spots, "nodes": tiles, "figures": machines.node_figures(spots) | queries.job_figures(request.user)}


def _jobs(request: SignedIn) -> dict[str, Any]:
    jobs, more = queries.jobs_list(request.user, queries.Wanted(), SHOWN_JOBS)
    return {"jobs": jobs, "more_jobs": more}


def _events(request: SignedIn) -> dict[str, Any]:
    return {"events": queries.events_for(request.user, SHOWN_EVENTS)}


PARTS = {"nodes": _nodes, "jobs": _jobs, "events": _events}


@page
def cluster(request: SignedIn) -> HttpResponse:
    context: dict[str, Any] = {"ranges": RANGES, "charts": CHARTS}
    for part in PARTS.values():
        context |= part(request)
    return render(request, "console/cluster.html", context)


@page
def cluster_part(request: SignedIn, part: str) -> HttpResponse:
    if part not in PARTS:
        raise Http404(f"the cluster page has no part {part}")
    return render(request, f"console/cluster/{part}.html", PARTS[part](request))
