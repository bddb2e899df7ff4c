"""What everybody must be able to use: axe-core looks at every page and dialog, wide and narrow, light and dark, and finds no
serious or critical fault; nothing sticks out. The rules: WCAG 2.1 A and AA."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page

from checkpoints.models import Sample
from checkpoints.services.figures import take_sample
from jobs.services import submit_array
from tests.console.conftest import NARROW, WIDE, Visitor
from tests.console.story import Story
from tests.console.test_system_pages import left, picture
from tests.control.cluster import Nodes, request

pytestmark = pytest.mark.django_db(transaction=True)
Visit = Callable[..., Visitor]
AXE = Path(__file__).resolve().parents[1] / "vendor" / "axe.min.js"
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}, "resultTypes": ["violations"]}


def faults(page: Page) -> list[str]:
    """What axe finds serious. It is put in beside the page's own scripts by the browser, not by the page: the policy stands."""
    page.evaluate(AXE.read_text())
    found: Any = page.evaluate("rules => axe.run(document, rules)", RULES)
    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    return [f"{page.url} {each['id']}: {each['nodes'][0]['html'][:160]} {each['nodes'][0]['failureSummary'][:200]}" for each in serious]


def hours_of_figures() -> None:
    now = timezone.now()
    last = take_sample(now)
    values = {field.name: getattr(last, field.name) for field in Sample._meta.fields if field.name not in ("id", "at")}
    for step in range(1, 200):
        wave = 1 + math.sin(step / 20)
        more = {"cores_used": int(4 * wave), "load": 3.5 * wave, "waiting": int(3 * wave), "mem_used_bytes": int(wave * (5 << 30))}
        Sample.objects.create(at=now - timedelta(seconds=15 * step), **{**values, **more})


@pytest.fixture
def story(nodes: Nodes, admin: User) -> Story:
    told = Story(nodes, admin).told()
    left(told, "field.png", picture("PNG"))
    submit_array(admin, request(pods=1, name="sweep"), list(range(4)))
    hours_of_figures()
    return told


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_no_page_shuts_anybody_out(visit: Visit, admin: User, story: Story, size: dict[str, int], look: Any) -> None:
    number = story.job.number
    pages = {
        "cluster": "/", "jobs": "/jobs/?state=", "submit": "/jobs/new/?template=mpi", "again": f"/jobs/new/?from={number}",
        "job": f"/jobs/{number}/", "rollback": f"/jobs/{number}/generations/2/rollback/", "copy": f"/jobs/{number}/generations/2/copy/",
        "room": f"/jobs/{number}/store/", "nodes": "/nodes/", "node": "/nodes/node1/", "drain": "/nodes/node1/drain/", "store": "/store/",
        "events": "/events/", "users": "/users/", "tokens": "/tokens/", "about": "/about/", "missing": "/jobs/987654/",
    }  # fmt: skip
    visitor = visit(admin, size)
    visitor.page.emulate_media(color_scheme=look, reduced_motion="reduce")
    found = []
    for name, path in pages.items():
        page = visitor.live(path)
        if name == "cluster":
            page.locator(".chart canvas").first.wait_for()
        visitor.assert_nothing_sticks_out()
        found += faults(page)
        visitor.shot(f"{name}-{look}")
    assert not found, "\n".join(found)


def test_a_hundred_nodes_are_a_map_that_says_what_each_square_is(visit: Visit, admin: User) -> None:
    nodes = Nodes(count=130)
    nodes.beat()
    nodes.run_job(admin, pods=40, ranks_per_pod=2, name="wide")
    visitor = visit(admin)
    page = visitor.live("/")
    assert page.locator(".map .spot").count() == 130
    assert not faults(page)
    visitor.shot("cluster-map")
