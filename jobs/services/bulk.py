"""Many jobs in one transaction: a list of requests, or an array (one request, run once for each index).

All are made or, when one is refused, none. Rows and events are written in a few statements, however many jobs there are;
each job of an array finds its index in CLUSTEROS_ARRAY_INDEX.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.db import connection, transaction

from clusteros.accounts.services import profile_of
from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_events
from clusteros.core.problems import Problem, invalid
from jobs.models import Job
from jobs.services.files import add_job_file
from jobs.services.placing import PossibleSizes
from jobs.services.submit import JobRequest, check_request, refuse_priority, row_values

MAX_JOBS = 10_000
MAX_INDEX = 1_000_000
INDEX_VARIABLE = "CLUSTEROS_ARRAY_INDEX"
_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?\Z")


def parse_indexes(text: str) -> list[int]:
    """'0-9', '1-99:2', '3,5,8' as indexes in order; Problem INVALID says what is wrong."""
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE.match(part.strip())
        if not match:
            raise invalid("array", f"'{part.strip()[:30]}' is not a range: write for example 0-9, 1-99:2 or 3,5,8")
        low, high, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if high < low or step < 1 or high > MAX_INDEX or (high - low) // step >= MAX_JOBS:
            raise invalid("array", f"'{part.strip()}' is empty or too large: at most {MAX_JOBS} jobs, indexes up to {MAX_INDEX}")
        found += range(low, high + 1, step)
    if len(found) > MAX_JOBS or len(set(found)) != len(found):
        raise invalid("array", f"at most {MAX_JOBS} jobs, each index once")
    return found


@transaction.atomic
def submit_jobs(owner: Any, requests: Sequence[JobRequest], *, acting_user: Any = None) -> list[Job]:
    """A job for each request. Problem names the first that is refused by its place, and then none is made."""
    if not 1 <= len(requests) <= MAX_JOBS:
        raise invalid("jobs", f"between 1 and {MAX_JOBS}")
    _check_all(requests, acting_user or owner)
    return _make(owner, requests, acting_user)


@transaction.atomic
def submit_array(owner: Any, request: JobRequest, indexes: Sequence[int], *, acting_user: Any = None) -> list[Job]:
    """The same request once for each index; the jobs know each other by the number of the first."""
    check = replace(request, env=request.env | {INDEX_VARIABLE: str(indexes[0])})
    _check_all([check], acting_user or owner)
    each = [replace(request, env=request.env | {INDEX_VARIABLE: str(index)}) for index in indexes]
    return _make(owner, each, acting_user, indexes)


def _check_all(requests: Sequence[JobRequest], acting_user: Any) -> None:
    possible = PossibleSizes()
    for place, request in enumerate(requests):
        try:
            check_request(request)
            refuse_priority(request, acting_user)
            possible.check(request)
        except Problem as refusal:
            if len(requests) == 1:
                raise
            raise Problem(refusal.code.name, f"job {place} of the list: {refusal.detail}", **{**refusal.fields, "at": place}) from refusal


def _make(owner: Any, requests: Sequence[JobRequest], acting_user: Any, indexes: Sequence[int] | None = None) -> list[Job]:
    profile_of(owner)
    numbers = _numbers(len(requests))
    rows = [Job(owner=owner, number=number, **row_values(request)) for number, request in zip(numbers, requests, strict=True)]
    for row, index in zip(rows, indexes or (), strict=False):
        row.array, row.array_index = numbers[0], index
    made = Job.objects.bulk_create(rows, batch_size=1000)
    for job, request in zip(made, requests, strict=True):
        for path, content in sorted(request.files.items()):
            add_job_file(job, path, [content], executable=path in request.executables)
    actor = str(acting_user or owner)
    record_events({"kind": f"job.{job.state}", "words": "submitted", "actor": actor, "new": job.state, **job.event_refs()} for job in made)
    wake_scheduler()
    return made


def _numbers(count: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('jobs_job_number') FROM generate_series(1, %s)", [count])
        return sorted(int(row[0]) for row in cursor.fetchall())
