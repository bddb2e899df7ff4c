"""`python benches/pages.py`: how long every page and list takes in a large cluster, and how many queries it asks.

A private PostgreSQL is seeded with 400 nodes, 100,000 jobs and 1,000,000 events (tests/seeded.py). Each address is asked for
several times through the whole of Django, middleware and templates too, in this process; what is printed is the time until the answer
is there, the quickest and the median of them. First byte: the answers are made whole before they are sent. What is late by its quickest
time, when nothing else had the machine, is marked, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
LIMIT_MS = 200.0
PAGES = (
    "/", "/part/nodes/", "/jobs/", "/jobs/?state=", "/jobs/?state=&q=seed-77", "/jobs/?state=&before=50000", "/jobs/100/",
    "/jobs/100/part/head/", "/jobs/100/part/tree/", "/jobs/100/part/life/", "/jobs/100/part/events/", "/jobs/100/log/",
    "/jobs/100/generations/2/rollback/", "/jobs/100/generations/2/copy/", "/jobs/new/", "/nodes/", "/nodes/n0007/",
    "/nodes/n0007/figures/?hours=48", "/store/", "/events/", "/events/?by=people", "/events/?noun=node", "/users/",
    "/about/", "/figures/?hours=168", "/api/v1/jobs",
    "/api/v1/jobs?limit=500", "/api/v1/jobs?limit=500&fields=number,state", "/api/v1/jobs/100", "/api/v1/jobs/100/generations",
    "/api/v1/jobs/100/generations/2/difference", "/api/v1/nodes/n0007/samples?hours=48", "/api/v1/jobs/100/log", "/api/v1/jobs/100/events",
    "/api/v1/nodes", "/api/v1/events?stream=0&after=500000", "/api/v1/store",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="clusteros-pages-"))
    from clusteros.lab import embedded

    os.environ["CLUSTEROS_STATE"] = str(directory / "state")
    os.environ["CLUSTEROS_SECRET_KEY"] = "only-for-the-bench"
    server = embedded.start_postgres(directory / "postgres")
    try:
        os.environ["CLUSTEROS_DATABASE_URL"] = server.url
        os.environ["CLUSTEROS_REDIS_URL"] = f"unix://{directory}/no-redis"
        return measure(asked)
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def measure(asked: argparse.Namespace) -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = "clusteros.settings"
    os.environ["CLUSTEROS_ALLOWED_HOSTS"] = "testserver"
    import logging

    import django

    django.setup()
    logging.disable(logging.WARNING)
    from django.core.management import call_command
    from django.test import Client

    from tests.seeded import Size, seed

    call_command("migrate", verbosity=0)
    started = time.monotonic()
    admin = seed(Size(asked.nodes, asked.jobs, asked.events), samples=True)
    print(f"seeded {asked.nodes} nodes, {asked.jobs:,} jobs, {asked.events:,} events in {time.monotonic() - started:.0f} s")
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    print(f"{'first byte':>12} {'median':>9} {'queries':>8} {'size':>10}  address")
    return 1 if any([one(client, path, asked.times) > LIMIT_MS for path in PAGES]) else 0


def one(client: object, path: str, times: int) -> float:
    """Print a line; the quickest time in milliseconds."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path)  # type: ignore[attr-defined]
    asked = len(queries)  # now: the next request forgets them
    assert answer.status_code == 200, (path, answer.status_code)
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        answer = client.get(path)  # type: ignore[attr-defined]
        took.append((time.perf_counter() - begun) * 1000)
    quickest, late = min(took), " <-- late" if min(took) > LIMIT_MS else ""
    print(f"{quickest:9.0f} ms {statistics.median(took):6.0f} ms {asked:8} {len(answer.content):9,}B  {path}{late}", flush=True)
    return quickest


if __name__ == "__main__":
    sys.exit(main())
