"""A cluster with a past, small and four times as large: every page and list costs the same number of queries."""

from __future__ import annotations

import pytest
from django.db import connection

from benches.pages import PAGES
from tests.console.test_doors import count, signed_in
from tests.seeded import Size, seed

pytestmark = pytest.mark.django_db(transaction=True)
MOST_QUERIES = 40


def forget() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE jobs_job, nodes_node, core_event, checkpoints_sample, checkpoints_nodesample, checkpoints_replica CASCADE")


def counts(size: Size) -> dict[str, int]:
    client = signed_in(seed(size, samples=True))
    count(client, "/")
    return {path: count(client, path) for path in PAGES}


def test_every_page_costs_the_same_however_large_the_cluster_is() -> None:
    small = counts(Size(nodes=30, jobs=500, events=2000, sampled_minutes=30))
    forget()
    large = counts(Size(nodes=120, jobs=2000, events=8000, sampled_minutes=30))
    grown = {path: (small[path], large[path]) for path in PAGES if large[path] > small[path]}
    assert not grown
    assert max(large.values()) < MOST_QUERIES, large
