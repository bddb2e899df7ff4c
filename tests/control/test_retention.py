"""Which generations are kept, and a change of that: told before it is done."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checkpoints.models import Generation
from checkpoints.services import apply_retention, change_retention
from jobs.models import Job
from tests.control.cluster import Nodes
from tests.control.test_api import problem, send

pytestmark = pytest.mark.django_db


def kept(job: Job) -> list[int]:
    return list(Generation.objects.filter(job=job, state="complete").values_list("number", flat=True))


@pytest.fixture
def job(nodes: Nodes) -> Job:
    """Eight generations, three an hour."""
    made = nodes.run_job(pods=1, keep=100)
    for _ in range(8):
        nodes.generation(made)
    for each in Generation.objects.filter(job=made):
        at = datetime.datetime.fromtimestamp(each.number * 1200, datetime.UTC)
        Generation.objects.filter(pk=each.pk).update(taken_at=at)
    return made


def test_the_last_every_kth_and_the_first_of_every_hour_stay(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(keep=2, keep_every=4, keep_per="hour")
    job.refresh_from_db()
    assert apply_retention(job) == [2, 5]
    assert kept(job) == [1, 3, 4, 6, 7, 8]
    assert apply_retention(job) == []


def test_a_change_is_told_before_it_is_done(job: Job, rest: Callable[..., Client]) -> None:
    client = rest(job.owner)
    asked = {"keep": 2, "keep_every": 3, "dry_run": True}
    said = send(client, "POST", f"/jobs/{job.number}/retention", asked).json()
    assert (said["removes"], said["words"], said["dry_run"]) == ([1, 2, 4, 5], "the last 2 and every 3rd", True)
    assert kept(job) == list(range(1, 9)), "nothing was done"
    done = send(client, "POST", f"/jobs/{job.number}/retention", {**asked, "dry_run": False}).json()
    assert done["removes"] == [1, 2, 4, 5]
    assert kept(job) == [3, 6, 7, 8]
    shown = send(client, "GET", f"/jobs/{job.number}").json()
    assert (shown["keep"], shown["keep_every"], shown["keep_per"]) == (2, 3, "")
    assert send(client, "POST", f"/jobs/{job.number}/retention", {"keep": 9}).json()["removes"] == []


def test_what_cannot_be_kept_is_refused_and_nothing_changes(job: Job, rest: Callable[..., Client]) -> None:
    bad: list[dict[str, Any]] = [{"keep": 0}, {"keep_every": -1}, {"keep_every": 10001}, {"keep_per": "week"}]
    for body in bad:
        answer = send(rest(job.owner), "POST", f"/jobs/{job.number}/retention", body)
        problem(answer, 422, "INVALID", next(iter(body)))
    assert kept(job) == list(range(1, 9))


def test_nobody_changes_what_anothers_job_keeps(nodes: Nodes, bob: User, rest: Callable[..., Client]) -> None:
    job = nodes.run_job()
    problem(send(rest(bob), "POST", f"/jobs/{job.number}/retention", {"keep": 1}), 404, "NOT_FOUND")


def test_a_pinned_one_and_the_last_stay_whatever_is_asked_for(job: Job) -> None:
    Generation.objects.filter(job=job, number=2).update(pinned=True)
    assert change_retention(job, {"keep": 1})["removes"] == [1, 3, 4, 5, 6, 7]
    assert kept(job) == [2, 8]
