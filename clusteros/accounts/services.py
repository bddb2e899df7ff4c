"""Verbs about people: make a user, give a uid, make, check and revoke tokens."""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from clusteros.accounts.models import FIRST_UID, ApiToken, Profile
from clusteros.core.events import record_event
from clusteros.core.problems import Problem, conflict, invalid, not_found

PREFIX = "cos_"
SCOPES = ("read", "write", "admin")
MAX_DAYS = 3650
USER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}\Z")
UID_LOCK = 0x636F5F756964


def profile_of(user: Any) -> Profile:
    """The user's profile; the first call gives it the next free uid."""
    found = Profile.objects.filter(user=user).first()
    return found or _make_profile(user)


@transaction.atomic
def _make_profile(user: Any) -> Profile:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [UID_LOCK])
    highest = Profile.objects.aggregate(uid=Max("uid"))["uid"] or FIRST_UID - 1
    profile, _ = Profile.objects.get_or_create(user=user, defaults={"uid": highest + 1, "gid": highest + 1})
    return profile


@transaction.atomic
def ensure_user(name: str, *, password: str | None = None, admin: bool = False) -> User:
    """The user of that name, made if need be; an existing one keeps its password."""
    user, made = User.objects.get_or_create(username=name, defaults={"is_staff": admin, "is_superuser": admin})
    if made:
        user.set_password(password)
        user.save()
    profile_of(user)
    return user


@transaction.atomic
def make_user(name: str, password: str, *, admin: bool = False, acting_user: Any = None) -> User:
    """A new user. Problem INVALID or CONFLICT says what is not acceptable."""
    if not USER_NAME.match(name):
        raise invalid("name", "letters, digits, '.', '_' and '-', at most 32, beginning with a letter")
    if User.objects.filter(username=name).exists():
        raise conflict(f"there is a user {name} already")
    try:
        validate_password(password)
    except ValidationError as wrong:
        raise invalid("password", " ".join(wrong.messages)) from wrong
    user = ensure_user(name, password=password, admin=admin)
    record_event("user.made", f"{name}{', an administrator' if admin else ''}", actor=str(acting_user or ""))
    return user


@transaction.atomic
def set_active(name: str, active: bool, *, acting_user: Any = None) -> User:
    """Lock a user out (tokens and sessions are void at once, jobs run on), or let one in again."""
    user = User.objects.select_for_update().filter(username=name).first()
    if user is None:
        raise not_found(f"user {name[:40]}")
    if not active and acting_user is not None and user.pk == acting_user.pk:
        raise conflict("nobody locks himself out")
    if user.is_active != active:
        User.objects.filter(pk=user.pk).update(is_active=active)
        user.is_active = active
        record_event("user.let_in" if active else "user.locked_out", name, actor=str(acting_user or ""))
    return user


@transaction.atomic
def make_token(
    user: Any, name: str, *, scopes: list[str], days: float | None = 30, acting_scopes: frozenset[str] | None = None
) -> tuple[ApiToken, str]:
    """(row, the token's text: shown once). A token gives no more than its maker has (`acting_scopes`)."""
    _check_scopes(user, scopes, acting_scopes)
    if not name or len(name) > 100:
        raise invalid("name", "a token needs a name of at most 100 characters")
    if days is not None and not 0 < days <= MAX_DAYS:
        raise invalid("days", f"between 0 and {MAX_DAYS}")
    text = PREFIX + secrets.token_urlsafe(32)
    expires_at = None if days is None else timezone.now() + datetime.timedelta(days=days)
    row = ApiToken.objects.create(
        user=user, name=name, sha256=_digest(text), hint=text[:8], scopes=sorted(set(scopes)), expires_at=expires_at
    )
    record_event("token.made", f"{name} ({', '.join(row.scopes)})", actor=str(user), owner_id=user.pk)
    return row, text


def _check_scopes(user: Any, scopes: list[str], acting: frozenset[str] | None) -> None:
    unknown = set(scopes) - set(SCOPES)
    if unknown or not scopes:
        raise invalid("scopes", f"one or more of {', '.join(SCOPES)}")
    if "admin" in scopes and not user.is_staff:
        raise Problem("DENIED", "only an administrator can have a token with the scope admin")
    if acting is not None and set(scopes) - acting:
        raise Problem("DENIED", "a token cannot make one that may do more than itself")


def check_token(text: str) -> ApiToken:
    """The row of a token that may be used now; Problem UNAUTHENTICATED says what is wrong with it."""
    row = ApiToken.objects.select_related("user").filter(sha256=_digest(text)).first()
    now = timezone.now()
    if row is None or row.revoked_at is not None or not row.user.is_active:
        raise Problem("UNAUTHENTICATED", "this token is not known here, or was revoked")
    if row.expires_at is not None and row.expires_at <= now:
        raise Problem("UNAUTHENTICATED", f"this token expired at {row.expires_at:%Y-%m-%d %H:%M} UTC: make a new one")
    if row.last_used_at is None or (now - row.last_used_at).total_seconds() > 60:
        ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
    return row


@transaction.atomic
def revoke_token(user: Any, token_id: int) -> None:
    changed = ApiToken.objects.filter(user=user, pk=token_id, revoked_at=None).update(revoked_at=timezone.now())
    if not changed:
        raise Problem("NOT_FOUND", "there is no such token of yours")
    record_event("token.revoked", actor=str(user), owner_id=user.pk)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
