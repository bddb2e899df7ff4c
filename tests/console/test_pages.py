"""Every page, wide and narrow: it is there, nothing sticks out, the browser has nothing to complain about."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from tests.console.conftest import NARROW, WIDE, Visitor
from tests.console.story import Story
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db(transaction=True)
Visit = Callable[..., Visitor]


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_fits_and_the_browser_is_content(visit: Visit, admin: User, nodes: Nodes, size: dict[str, int]) -> None:
    story = Story(nodes, admin).told()
    number = story.job.number
    pages = {
        "cluster": "/", "jobs": "/jobs/?state=", "submit": "/jobs/new/", "job": f"/jobs/{number}/",
        "rollback": f"/jobs/{number}/generations/2/rollback/", "cancel": f"/jobs/{number}/cancel/",
        "delete": f"/jobs/{number}/generations/3/delete/", "room": f"/jobs/{number}/store/", "nodes": "/nodes/", "node": "/nodes/node1/",
        "drain": "/nodes/node1/drain/", "join": "/nodes/join/", "tokens": "/tokens/", "missing": "/jobs/987654/",
    }  # fmt: skip
    visitor = visit(admin, size)
    for name, path in pages.items():
        visitor.live(path)
        visitor.assert_nothing_sticks_out()
        visitor.shot(name)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_empty_pages_teach_what_to_do(visit: Visit, admin: User, size: dict[str, int]) -> None:
    visitor = visit(admin, size)
    page = visitor.live("/")
    assert "No machine has joined yet" in page.inner_text("main")
    assert "clusteros submit" in page.inner_text("main")
    visitor.shot("cluster-empty")
    visitor.open("/jobs/")
    assert "Nothing runs and nothing waits" in page.inner_text("main")
    visitor.open("/tokens/")
    assert "clusteros login" in page.inner_text("main")
    visitor.assert_nothing_sticks_out()


def test_the_pages_are_readable_in_the_dark(visit: Visit, admin: User, nodes: Nodes) -> None:
    story = Story(nodes, admin).told()
    visitor = visit(admin)
    visitor.page.emulate_media(color_scheme="dark")
    page = visitor.live(f"/jobs/{story.job.number}/")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    visitor.shot("job-dark")
    page.click("[data-do=theme]")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark, "the choice is remembered"


def test_the_picture_of_the_tree_shows_branch_pin_and_failure(visit: Visit, admin: User, nodes: Nodes) -> None:
    story = Story(nodes, admin).told()
    page = visit(admin).live(f"/jobs/{story.job.number}/")
    rows = page.locator(".tree > li")
    assert rows.first.inner_text().startswith("now")
    assert "grown from generation" in rows.first.inner_text()
    assert page.locator("#g2 .tag", has_text="pinned").count() == 1
    assert page.locator(f"#g{story.failed.number} circle.failed").count() == 1
    assert "disk full" in page.inner_text(f"#g{story.failed.number}")
    assert page.locator("#tree .branch").count() >= 1
    heights = page.eval_on_selector_all(
        ".tree > li", "rows => rows.map(r => [r.offsetHeight, r.querySelector('svg').getBoundingClientRect().height])"
    )
    assert all(abs(row - strip) <= 2 and row < 90 for row, strip in heights), heights


def test_what_a_job_prints_cannot_become_part_of_the_page(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo, name="<img src=x onerror=alert(1)>")
    story.start()
    story.print("<script>document.title='owned'</script>\n")
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    assert "<script>document.title='owned'</script>" in page.inner_text("#log")
    assert page.locator("#log script, h1 img").count() == 0


def test_places_are_reached_by_keys(visit: Visit, demo: User, nodes: Nodes) -> None:
    page = visit(demo).live("/")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/jobs/")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("g")
    page.locator("h1").click()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
