"""A small cast: alice and bob own jobs, carol is the administrator; `nodes` are three machines of four cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from clusteros.accounts.services import ensure_user, make_token
from tests.control.cluster import Nodes


@pytest.fixture
def alice(db: None) -> User:
    return ensure_user("alice", password="alice-password")


@pytest.fixture
def bob(db: None) -> User:
    return ensure_user("bob", password="bob-password")


@pytest.fixture
def carol(db: None) -> User:
    return ensure_user("carol", password="carol-password", admin=True)


@pytest.fixture
def nodes(db: None) -> Nodes:
    made = Nodes()
    made.beat()
    return made


@pytest.fixture
def rest() -> Callable[..., Client]:
    """rest(user, scopes) is a client with a fresh token."""

    def make(user: User, *scopes: str, days: float = 1) -> Client:
        wanted = list(scopes) or (["read", "write", "admin"] if user.is_staff else ["read", "write"])
        _, token = make_token(user, "test", scopes=wanted, days=days)
        return Client(headers={"Authorization": f"Bearer {token}"})

    return make


@pytest.fixture
def as_json() -> dict[str, Any]:
    return {"content_type": "application/json"}
