"""REST: who am I, my tokens."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from clusteros.accounts import services
from clusteros.accounts.models import ApiToken
from clusteros.core.auth import require_admin
from clusteros.core.paging import page
from clusteros.core.schemas import Moment, Page, Strict

router = Router(tags=["accounts"])


class TokenIn(Strict):
    name: str = "token"
    scopes: list[str] = ["read", "write"]
    days: float | None = 30


class TokenOut(Schema):
    id: int
    name: str
    hint: str
    scopes: list[str]
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None
    revoked: bool


class NewToken(TokenOut):
    token: str = Field(description="shown this once")


class Me(Schema):
    name: str
    admin: bool
    uid: int
    gid: int
    scopes: list[str]


class UserIn(Strict):
    name: str = Field(examples=["alice"])
    password: str
    admin: bool = False


class ActiveIn(Strict):
    active: bool


class UserOut(Schema):
    name: str
    admin: bool
    active: bool
    last_login: Moment | None


def user_json(user: User) -> dict[str, Any]:
    last = user.last_login.isoformat() if user.last_login else None
    return {"name": user.username, "admin": user.is_staff, "active": user.is_active, "last_login": last}


def token_json(row: ApiToken) -> dict[str, Any]:
    return {
        "id": row.pk, "name": row.name, "hint": row.hint, "scopes": row.scopes,
        "created_at": row.created_at.isoformat(),
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
        "last_used_at": row.last_used_at.isoformat() if row.last_used_at else None,
        "revoked": row.revoked_at is not None,
    }  # fmt: skip


@router.get("/me", response=Me)
def me(request: HttpRequest) -> Any:
    profile = services.profile_of(request.user)
    return {
        "name": request.user.get_username(), "admin": request.user.is_staff, "uid": profile.uid, "gid": profile.gid,  # type: ignore[union-attr]
        "scopes": sorted(request.scopes),  # type: ignore[attr-defined]
    }  # fmt: skip


@router.get("/tokens", response=Page[TokenOut])
def tokens(request: HttpRequest) -> Any:
    user: Any = request.user
    return {"items": [token_json(row) for row in ApiToken.objects.filter(user=user)], "next": None}


@router.post("/tokens", response={201: NewToken})
def make_token(request: HttpRequest, payload: TokenIn) -> Any:
    """The answer's `token` is shown this once."""
    scopes = request.scopes  # type: ignore[attr-defined]
    row, text = services.make_token(
        request.user, payload.name, scopes=payload.scopes, days=payload.days, acting_scopes=scopes
    )
    return Status(201, token_json(row) | {"token": text})


@router.delete("/tokens/{token_id}", response={204: None})
def revoke_token(request: HttpRequest, token_id: int) -> Any:
    services.revoke_token(request.user, token_id)
    return Status(204, None)


@router.get("/users", response=Page[UserOut])
def users(request: HttpRequest, limit: int = 200, cursor: str | None = None) -> Any:
    require_admin(request)
    return page(User.objects.all(), user_json, key="username", limit=limit, cursor=cursor, newest_first=False)


@router.post("/users", response={201: UserOut})
def make_user(request: HttpRequest, payload: UserIn) -> Any:
    require_admin(request)
    made = services.make_user(payload.name, payload.password, admin=payload.admin, acting_user=request.user)
    return Status(201, user_json(made))


@router.patch("/users/{name}", response=UserOut)
def set_active(request: HttpRequest, name: str, payload: ActiveIn) -> Any:
    """Lock a user out, or let one in again; the jobs run on."""
    require_admin(request)
    return user_json(services.set_active(name, payload.active, acting_user=request.user))
