"""Who asks over REST: a bearer token, or the console's session (with its CSRF token).

Every request carries `request.scopes`; reading needs `read`, everything else `write`, administration `admin`.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer, SessionAuth

from clusteros.accounts.services import SCOPES, check_token
from clusteros.core.problems import Problem
from clusteros.core.rates import count_request

READING = ("GET", "HEAD", "OPTIONS")


class TokenAuth(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> Any:
        row = check_token(token)
        _admit(request, row.user, frozenset(row.scopes))
        return row.user


class ConsoleAuth(SessionAuth):
    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        if not request.user.is_authenticated:
            return None
        scopes = frozenset(SCOPES) if request.user.is_staff else frozenset({"read", "write"})
        _admit(request, request.user, scopes)
        return request.user


def _admit(request: HttpRequest, user: Any, scopes: frozenset[str]) -> None:
    needed = "read" if request.method in READING else "write"
    if needed not in scopes and "admin" not in scopes:
        raise Problem("DENIED", f"this token has no scope {needed}")
    request.user = user
    request.rate = count_request(user.pk)  # type: ignore[attr-defined]
    request.scopes = scopes  # type: ignore[attr-defined]


def require_admin(request: HttpRequest) -> None:
    """For doors of administrators: an administrator with the scope admin. (No decorator: ninja reads the view's own
    signature.)"""
    if not request.user.is_staff or "admin" not in request.scopes:  # type: ignore[attr-defined, union-attr]
        raise Problem("DENIED", "only an administrator may do that (with a token of scope admin)")


DEFAULT_AUTH = [TokenAuth(), ConsoleAuth(csrf=True)]
