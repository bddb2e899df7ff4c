"""The page Tokens: what scripts and the command line use to speak for their owner; a new one is shown once."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from clusteros.accounts import services
from clusteros.accounts.models import ApiToken
from clusteros.console.views.base import SignedIn, action, page
from clusteros.core.problems import Problem

LIFETIMES = (("1", "a day"), ("7", "a week"), ("30", "30 days"), ("365", "a year"))
SCOPES = {
    "read": ["read"],
    "write": ["read", "write"],
    "admin": ["read", "write", "admin"],
}


@page
@require_http_methods(["GET", "POST"])
def tokens(request: SignedIn) -> HttpResponse:
    made, refusal = None, ""
    if request.method == "POST":
        try:
            made = _make(request)
        except Problem as problem:
            refusal = problem.detail
    host = request.build_absolute_uri("/").rstrip("/")
    context = {"tokens": _mine(request), "made": made, "refusal": refusal, "lifetimes": LIFETIMES, "host": host}
    return render(request, "console/tokens.html", context, status=422 if refusal else 200)


def _make(request: SignedIn) -> str:
    days = request.POST.get("days", "30")
    scopes = SCOPES.get(request.POST.get("scope", "write"), SCOPES["write"])
    lifetime = float(days) if days.isdecimal() else 30
    _, text = services.make_token(request.user, request.POST.get("name", "").strip(), scopes=scopes, days=lifetime)
    return text


def _mine(request: SignedIn) -> list[Any]:
    return list(ApiToken.objects.filter(user=request.user, revoked_at=None))


@action
def revoke(request: SignedIn, token_id: int) -> tuple[str, str]:
    services.revoke_token(request.user, token_id)
    return "The token is revoked; whatever used it is refused from now on.", "console:tokens"
