"""pytest plugin (`-p tests.servers`): a private PostgreSQL and Redis for all tests that use Django.

The settings are read before any conftest, so the addresses are put into the environment when this is imported; the servers
themselves start with the first test that wants the database, and end with the run. Addresses that are in the environment
already are used as they are.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from clusteros.lab import embedded

NAMES = ("CLUSTEROS_DATABASE_URL", "CLUSTEROS_REDIS_URL")
GIVEN = all(name in os.environ for name in NAMES)
DIRECTORY = Path(tempfile.gettempdir()) / f"clusteros-tests-{os.getpid()}"

if not GIVEN:
    os.environ["CLUSTEROS_DATABASE_URL"] = embedded.postgres_url(DIRECTORY / "postgres")
    os.environ["CLUSTEROS_REDIS_URL"] = f"unix://{DIRECTORY}/redis/redis.sock"
os.environ["CLUSTEROS_STATE"] = str(DIRECTORY / "state")
os.environ.setdefault("CLUSTEROS_SECRET_KEY", "only-for-the-tests")
os.environ["CLUSTEROS_LOST_AFTER_S"] = "60"  # made-up nodes beat when a test says so, however slow the machine is


def pytest_configure() -> None:
    """SIGTERM ends the tests as Ctrl-C does: servers and labs are taken down."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", returncode=143))


def _forget_about_power_cuts(url: str) -> None:
    """What is in this database need not outlive the machine: without fsync the tests take a fraction of the time."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """PostgreSQL and Redis at the addresses that the settings have."""
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    started: list[embedded.Server] = []
    try:
        if not GIVEN:
            started.append(embedded.start_postgres(DIRECTORY / "postgres"))
            _forget_about_power_cuts(started[-1].url)
            started.append(embedded.start_redis(DIRECTORY / "redis"))
        yield
    finally:
        for server in started:
            server.stop()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
