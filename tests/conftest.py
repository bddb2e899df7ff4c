"""What all tests that use Django share: the database is on the private servers of tests/servers.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


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
