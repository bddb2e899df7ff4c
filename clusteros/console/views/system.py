"""Pages about the whole: the store, what happened (and by whose hand), the people, the system itself, and the charts' figures."""

from __future__ import annotations

import platform
from typing import Any

import django
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Count, Q
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from checkpoints.services.figures import KEEP_DAYS, read_samples, store_figures
from checkpoints.services.quotas import bytes_of
from clusteros.accounts import services as accounts
from clusteros.console import queries
from clusteros.console.views.base import SignedIn, action, admin_only, hours_asked, page
from clusteros.core.problems import Problem
from clusteros.environment import environment
from clusteros.version import version
from jobs.models import JOB_OVER, Job
from nodes.models import Node

PAGE_EVENTS = 100
SHOWN_NODES = 50
NOUNS = ("job", "run", "pod", "generation", "resume", "node", "user", "token")


@page
def store(request: SignedIn) -> HttpResponse:
    return render(request, "console/store.html", _store(request))


@page
def store_part(request: SignedIn) -> HttpResponse:
    return render(request, "console/system/store.html", _store(request))


def _store(request: SignedIn) -> dict[str, Any]:
    figures = store_figures(queries.jobs_of(request.user), most_nodes=SHOWN_NODES)
    return {"store": figures, "own_bytes": bytes_of(request.user) if figures["quota_bytes"] else 0}


@page
def events(request: SignedIn) -> HttpResponse:
    return render(request, "console/events.html", _events(request))


@page
def events_part(request: SignedIn) -> HttpResponse:
    return render(request, "console/system/events.html", _events(request))


def _events(request: SignedIn) -> dict[str, Any]:
    """By noun, text, and whether somebody's hand was in it (the audit log)."""
    asked = request.GET
    noun = asked.get("noun", "") if asked.get("noun") in NOUNS else ""
    before = int(asked["before"]) if asked.get("before", "").isdecimal() and len(asked["before"]) < 18 else None
    text, by_hand = asked.get("q", "").strip()[:100], asked.get("by") == "people"
    found, more = queries.events_page(request.user, noun, text, by_hand, before, PAGE_EVENTS)
    query = asked.copy()
    query.pop("before", None)
    return {
        "events": found, "more": more, "before": before, "noun": noun, "q": text, "by_hand": by_hand, "nouns": NOUNS,
        "query": query.urlencode(),
    }  # fmt: skip


@page
@admin_only
@require_http_methods(["GET", "POST"])
def users(request: SignedIn) -> HttpResponse:
    """Who may come in; a new user is made here."""
    refusal = ""
    if request.method == "POST":
        asked = request.POST
        try:
            accounts.make_user(
                asked.get("name", ""), asked.get("password", ""), admin=asked.get("admin") == "1", acting_user=request.user
            )
        except Problem as problem:
            refusal = problem.detail
    people = list(User.objects.select_related("profile").order_by("username"))
    rows = Job.objects.order_by().values("owner").annotate(n=Count("pk"), live=Count("pk", ~Q(state__in=JOB_OVER)))
    counts = {owner: (live, number) for owner, number, live in rows.values_list("owner", "n", "live")}
    listed = [(each, *counts.get(each.pk, (0, 0))) for each in people]
    return render(request, "console/users.html", {"people": listed, "refusal": refusal}, status=422 if refusal else 200)


@action
@admin_only
def user_active(request: SignedIn, name: str) -> tuple[str, str]:
    active = request.POST.get("active") == "1"
    accounts.set_active(name, active, acting_user=request.user)
    said = "may come in again" if active else "is locked out; tokens and sessions are void, jobs run on"
    return f"{name} {said}.", reverse("console:users")


@page
def about(request: SignedIn) -> HttpResponse:
    """Versions, times, and what the kernels of the nodes do not allow."""
    env = environment()
    times = (
        ("a heartbeat every", env.heartbeat_s), ("a node is lost after", env.lost_after_s), ("a lease lasts", env.lease_s),
        ("a cut must be done within", env.cut_deadline_s), ("a restore within", env.restore_deadline_s),
    )  # fmt: skip
    context = {
        "version": version(), "django": django.get_version(), "python": platform.python_version(), "postgres": _postgres(),
        "times": times, "env": env, "nodes": [(node, _missing(node)) for node in Node.objects.all()],
        "rate": env.requests_per_minute,
    }  # fmt: skip
    return render(request, "console/about.html", context)


def _postgres() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0]).split(" ")[0]


def _missing(node: Node) -> list[dict[str, Any]]:
    probes = node.doctor.get("probes") if isinstance(node.doctor, dict) else None
    return [probe for probe in probes or [] if isinstance(probe, dict) and not probe.get("ok")]


@page
def figures(request: SignedIn) -> JsonResponse:
    """For the charts, see static/console/charts.js."""
    return JsonResponse(read_samples(hours_asked(request, 24.0 * KEEP_DAYS)))


