"""What views share: who may, how a refusal is said, and the answer to a button."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from clusteros.core.problems import Problem

View = Callable[..., HttpResponseBase]

WHAT_TO_DO = {
    "BUSY": "Try again in a moment.",
    "CONFLICT": "Look at the present state on this page, then decide again.",
    "STALE": "The page was out of date; it shows the present state now.",
    "UNSUPPORTED": "The job page names what stands in the way; end or change that part of the program.",
    "NO_ROOM": "Ask for less, or wait until something ends; the page Nodes shows what is free.",
    "DENIED": "Ask an administrator of this cluster.",
    "NO_SPACE": "Delete generations that are not needed, or let an administrator make room.",
}


class SignedIn(HttpRequest):
    """A request after login_required: for the types only."""

    user: User


def hours_asked(request: HttpRequest, most: float) -> float:
    """How much of the past a chart shows."""
    try:
        return min(most, max(0.05, float(request.GET.get("hours", "1"))))
    except ValueError:
        return 1.0


def is_part(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def page(view: View) -> View:
    """A page for people who are logged in; what is not there, or not theirs, is a 404."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except Problem as refusal:
            if refusal.code.http == 404:
                raise Http404(refusal.detail) from refusal
            if refusal.code.http == 403:
                raise PermissionDenied(refusal.detail) from refusal
            raise

    return login_required(wrapped)


def action(view: Callable[..., tuple[str, str]]) -> View:
    """A button: the view does one verb and returns (what to say, where to go); refusals are said, not thrown."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            words, where = view(request, *args, **kwargs)
        except Problem as refusal:
            return _refused(request, refusal)
        return _done(request, words, where)

    return login_required(require_POST(wrapped))


def admin_only(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not getattr(request.user, "is_staff", False):
            if request.method == "POST":
                raise Problem("DENIED", "only an administrator may do that")
            raise PermissionDenied("only an administrator may see that")
        return view(request, *args, **kwargs)

    return wrapped


def _done(request: HttpRequest, words: str, where: str) -> HttpResponse:
    if is_part(request):
        there = where if where.startswith("/") else reverse(where)
        link = there if urlsplit(request.headers.get("HX-Current-URL", "")).path not in ("", there) else ""
        return render(request, "console/parts/toast.html", {"level": "success", "words": words, "link": link})
    messages.success(request, words)
    return redirect(where)


def _refused(request: HttpRequest, refusal: Problem) -> HttpResponse:
    hint = WHAT_TO_DO.get(refusal.code.name, "")
    if is_part(request):
        said = {"level": "error", "words": refusal.detail, "hint": hint}
        return render(request, "console/parts/toast.html", said, status=refusal.code.http)
    messages.error(request, f"{refusal.detail}. {hint}".strip())
    return redirect(_back(request))


def _back(request: HttpRequest) -> str:
    """The page that the form stood on, if it is one of ours."""
    came_from = urlsplit(request.headers.get("Referer", ""))
    ours = came_from.netloc == request.get_host() and came_from.path.startswith("/")
    return came_from.path if ours and not came_from.path.startswith("//") else "/"
