"""REST: who am I, my tokens."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from clusteros.accounts import services
from clusteros.accounts.models import ApiToken
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
