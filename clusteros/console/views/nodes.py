"""Nodes: the list, one node, and the drain with what it will do."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render

from checkpoints.services.figures import NODE_KEEP_DAYS, read_node_samples
from clusteros.console import machines, queries
from clusteros.console.views.base import SignedIn, action, admin_only, hours_asked, is_part, page
from clusteros.core.problems import Problem
from nodes import services
from nodes.models import NODE_GRAPH

SHOWN_EVENTS = 40
PAGE_NODES = 50
RANGES = ((1, "1 h"), (6, "6 h"), (24, "1 day"), (48, "2 days"))
CHARTS = (("node_load", "Load"), ("node_memory", "Memory"), ("node_network", "Network"), ("node_pods", "Pods"))


@page
def nodes(request: SignedIn) -> HttpResponse:
    return render(request, "console/nodes.html", _list(request))


@page
def nodes_part(request: SignedIn) -> HttpResponse:
    return render(request, "console/nodes/list.html", _list(request))


def _list(request: SignedIn) -> dict[str, Any]:
    """By name, a page at a time; of a state, or with a text in their name."""
    asked = request.GET
    state = asked.get("state", "") if asked.get("state") in NODE_GRAPH.states else ""
    text, after = asked.get("q", "").strip()[:63], asked.get("after", "")[:63]
    which = {"name__icontains": text, "state": state, "name__gt": after}
    found = machines.nodes_for(request.user, limit=PAGE_NODES + 1, **{key: value for key, value in which.items() if value})
    more = found[PAGE_NODES - 1].node.name if len(found) > PAGE_NODES else ""
    return {
        "nodes": found[:PAGE_NODES], "more": more, "after": after, "q": text, "state": state, "states": NODE_GRAPH.states,
    }  # fmt: skip


@page
@admin_only
def join_token(request: SignedIn) -> HttpResponse:
    """Make a join token, shown once with the command to type on the new machine."""
    token, refusal = "", ""
    if request.method == "POST":
        try:
            _, token = services.make_join_token(acting_user=request.user)
        except Problem as problem:
            refusal = problem.detail
    context = {"token": token, "refusal": refusal, "host": request.build_absolute_uri("/").rstrip("/")}
    return render(request, "console/join.html", context)


@page
def node(request: SignedIn, name: str) -> HttpResponse:
    return render(request, "console/node.html", _one(request, name) | {"ranges": RANGES, "charts": CHARTS})


@page
def node_part(request: SignedIn, name: str) -> HttpResponse:
    """What stands above the charts, or (?more) below them."""
    template = "console/nodes/more.html" if "more" in request.GET else "console/nodes/one.html"
    return render(request, template, _one(request, name))


@page
def node_figures(request: SignedIn, name: str) -> JsonResponse:
    """For the charts, see static/console/charts.js."""
    hours = hours_asked(request, 24.0 * NODE_KEEP_DAYS)
    return JsonResponse(read_node_samples(services.get_node(name), hours))


def _one(request: SignedIn, name: str) -> dict[str, Any]:
    view = machines.node_for(request.user, name)
    return {"view": view, "node": view.node, "events": queries.events_for(request.user, SHOWN_EVENTS, node=name)}


@page
def drain_dialog(request: SignedIn, name: str) -> HttpResponse:
    """What a drain would do, in words, before it is done."""
    view = machines.node_for(request.user, name)
    context = {"part": "console/confirm/drain.html", "view": view, "node": view.node, "is_part": is_part(request)}
    return render(request, "console/confirm/page.html", context)


@action
@admin_only
def drain(request: SignedIn, name: str) -> tuple[str, str]:
    services.drain_node(name, acting_user=request.user)
    return f"{name} is being drained: its jobs move to other nodes.", "console:nodes"


@action
@admin_only
def undrain(request: SignedIn, name: str) -> tuple[str, str]:
    services.undrain_node(name, acting_user=request.user)
    return f"{name} takes jobs again.", "console:nodes"
