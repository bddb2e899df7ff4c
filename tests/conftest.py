"""What all tests that use Django share: the database is on the private servers of tests/servers.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None) -> None:
    """The servers run before the test database is made."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, servers: None) -> Iterator[None]:
    """Connections that threads left in the pool are closed before the test database is dropped."""
    yield
    from django.db import connections

    for connection in connections.all():
        connection.close()
        if getattr(connection, "pool", None):
            connection.close_pool()


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Django's own advice for tests: a password that is hashed a million times costs half a second for each user that a test makes."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield
