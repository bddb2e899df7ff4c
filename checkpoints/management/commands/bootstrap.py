"""`manage.py bootstrap`: the first administrator, a user to try things with, their tokens, a token for nodes, and the
cluster's key. May be run again: people keep their passwords, tokens of an earlier run are revoked and made anew.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils import timezone

from checkpoints.certificates import cluster_key
from clusteros.accounts.models import ApiToken
from clusteros.accounts.services import ensure_user, make_token
from clusteros.environment import environment
from nodes.services import make_join_token

TOKEN_NAME = "bootstrap"
TOKEN_DAYS = 365


class Command(BaseCommand):
    help = "Make the first users and tokens; prints them as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON (it always does)")

    def handle(self, *args: Any, **options: Any) -> None:
        cluster_key()
        passwords = _passwords()
        with transaction.atomic():
            people = {
                "admin": _person("admin", passwords["admin"], ["read", "write", "admin"]),
                "demo": _person("demo", passwords["demo"], ["read", "write"]),
            }
            _, join_token = make_join_token(hours=24 * 365)
        self.stdout.write(json.dumps({**people, "join_token": join_token}))


def _passwords() -> dict[str, str]:
    """Made once and kept beside the cluster's key (0600), so that the start page can always say them."""
    path = environment().state / "first-passwords.json"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(json.dumps({"admin": secrets.token_urlsafe(12), "demo": secrets.token_urlsafe(12)}))
    return dict(json.loads(path.read_text()))


def _person(name: str, password: str, scopes: list[str]) -> dict[str, str]:
    user: User = ensure_user(name, password=password, admin="admin" in scopes)
    ApiToken.objects.filter(user=user, name=TOKEN_NAME, revoked_at=None).update(revoked_at=timezone.now())
    _, token = make_token(user, TOKEN_NAME, scopes=scopes, days=TOKEN_DAYS)
    known = user.check_password(password)
    return {"username": name, "password": password if known else "", "token": token}
