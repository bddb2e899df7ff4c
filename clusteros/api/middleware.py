"""What holds for every answer below /api/v1: refusals are problems also where no view was reached, what is known already
is answered 304, and the limits of the caller stand in the headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from clusteros.core.problems import Problem

PREFIX = "/api/v1/"
CODE_OF = {404: "NOT_FOUND", 403: "DENIED", 405: "USAGE", 400: "USAGE", 413: "INVALID"}
NUL_WORDS = "a NUL stands in it"


class ApiMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path.startswith(PREFIX):
            return self._get_response(request)
        refusal = _refused_at_once(request)
        if refusal is not None:
            return problem_response(refusal)
        response = self._get_response(request)
        _show_rate(request, response)
        if response.status_code >= 400 and isinstance(response, HttpResponse) and "json" not in response.get("Content-Type", ""):
            return _as_problem(response)
        return _not_modified(request, response)


def problem_response(problem: Problem) -> HttpResponse:
    content = problem.as_json()
    response = HttpResponse(json.dumps(content), status=content["status"], content_type="application/problem+json")
    if problem.code.name == "UNAUTHENTICATED":
        response["WWW-Authenticate"] = "Bearer"
    if "retry_after_s" in content:
        response["Retry-After"] = str(content["retry_after_s"])
    return response


def _refused_at_once(request: HttpRequest) -> Problem | None:
    """PostgreSQL takes no NUL in texts, and nothing is asked for but objects and lists. (PUT is for files: they are as they are.)"""
    if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
        return Problem("INVALID", NUL_WORDS)
    if request.content_type != "application/json" or request.method not in ("POST", "PATCH", "DELETE"):
        return None
    try:
        body = request.body.lstrip()
    except RequestDataTooBig:
        return Problem("INVALID", "the request is too large: put large files one by one", status=413)
    if b"\\u0000" in body:
        return Problem("INVALID", NUL_WORDS)
    if body and body[:1] not in (b"{", b"["):
        return Problem("USAGE", "the body must be a JSON object or list")
    return None


def _as_problem(response: HttpResponse) -> HttpResponse:
    """Django's own refusals (no such address, wrong method, csrf) said as everything else is."""
    status = response.status_code
    words = {404: "there is nothing at this address", 405: f"this address takes {response.get('Allow', 'another method')}"}
    name = CODE_OF.get(status, "USAGE" if status < 500 else "BUG")
    said = problem_response(Problem(name, words.get(status, HTTPStatus(status).phrase), status=status))
    for header in ("Allow", "WWW-Authenticate"):
        if header in response:
            said[header] = response[header]
    return said


def _not_modified(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    known = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
    tag = response.get("ETag", "")
    if request.method != "GET" or response.status_code != 200 or not tag or (tag not in known and known != ["*"]):
        return response
    unchanged = HttpResponse(status=304)
    unchanged["ETag"] = tag
    return unchanged


def _show_rate(request: HttpRequest, response: HttpResponseBase) -> None:
    rate: Any = getattr(request, "rate", None)
    if rate is not None:
        response["RateLimit-Limit"], response["RateLimit-Remaining"] = str(rate.limit), str(rate.left)
        response["RateLimit-Reset"] = str(rate.resets_s)
