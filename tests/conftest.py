"""All Python tests: a private PostgreSQL and a private Redis for the session, real ones, started before Django is set up.

An address in the environment (CLUSTEROS_TEST_DATABASE_URL, CLUSTEROS_TEST_REDIS_URL) is used instead when it is given.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path

from clusteros.lab.embedded import start_postgres, start_redis


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_services() -> None:
    folder = Path(tempfile.mkdtemp(prefix="clusteros-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database, broker = os.environ.get("CLUSTEROS_TEST_DATABASE_URL"), os.environ.get("CLUSTEROS_TEST_REDIS_URL")
    if not database:
        postgres = start_postgres(folder / "postgres")
        atexit.register(postgres.stop)
        database = postgres.url
    if not broker:
        redis = start_redis(folder / "redis", port=_free_port())
        atexit.register(redis.stop)
        broker = redis.url
    os.environ.update(
        CLUSTEROS_DATABASE_URL=database,
        CLUSTEROS_REDIS_URL=broker,
        CLUSTEROS_NODE_REDIS_URL=broker,
        CLUSTEROS_STATE=str(folder / "state"),
        CLUSTEROS_SECRET_KEY="a-key-for-tests-only-and-nothing-else-000000000000",
        CLUSTEROS_ALLOWED_HOSTS="127.0.0.1,localhost,testserver",
        DJANGO_SETTINGS_MODULE="clusteros.settings",
    )


_start_services()

import django  # noqa: E402

django.setup()
