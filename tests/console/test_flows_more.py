"""More of what people do at the console, in a real browser: copy, tick many, try a submission, search a log, watch the charts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from jobs.models import Job
from jobs.services import submit_job
from tests.console.conftest import NARROW, WIDE, Visitor
from tests.console.story import Story
from tests.control.cluster import Nodes, request

pytestmark = pytest.mark.django_db(transaction=True)
Visit = Callable[..., Visitor]


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_copy_is_made_in_two_clicks_and_shown(visit: Visit, demo: User, nodes: Nodes, size: dict[str, int]) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    visitor = visit(demo, size)
    page = visitor.live(f"/jobs/{story.job.number}/")
    page.click("#b-copy-1")
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("there is room for it")
    page.fill("#copy-name", "what-if")
    visitor.shot("copy-dialog")
    page.click("#b-copy")
    expect(page.locator("#toasts")).to_contain_text("grows from generation 1")
    page.click("text=Show it")
    expect(page.locator("h1")).to_have_text("what-if")
    expect(page.locator(".crumb")).to_contain_text(f"a copy of job {story.job.number}, generation 1")
    assert Job.objects.get(name="what-if").resume_from == 1


def test_many_jobs_are_ticked_held_and_stay_ticked_while_the_list_lives(visit: Visit, demo: User, nodes: Nodes) -> None:
    jobs = [submit_job(demo, request(name=f"job-{number}")) for number in range(3)]
    page = visit(demo).live("/jobs/")
    bar = page.locator("#bulk")
    expect(bar).not_to_be_visible()
    for job in jobs[:2]:
        page.check(f"[data-tick][value='{job.number}']")
    expect(bar).to_contain_text("2 ticked")
    submit_job(demo, request(name="newcomer"))
    expect(page.locator("#jobs")).to_contain_text("newcomer")
    expect(bar).to_contain_text("2 ticked")
    bar.get_by_text("Hold").click()
    expect(page.locator("#toasts")).to_contain_text("2 jobs: hold")
    expect(page.locator("#jobs .state", has_text="held")).to_have_count(2)
    assert sorted(Job.objects.filter(state="held").values_list("name", flat=True)) == ["job-0", "job-1"]


def test_a_submission_is_tried_and_then_made(visit: Visit, demo: User, nodes: Nodes) -> None:
    page = visit(demo).live("/jobs/new/")
    page.click("text=Python")
    expect(page.locator("#id_script")).to_have_value("#!/usr/bin/env python3\nimport time\n\nfor step in range(600):\n"
                                                     '    print("step", step, flush=True)\n    time.sleep(1)\n')  # fmt: skip
    page.click("#b-dry")
    expect(page.locator("#foresight")).to_contain_text("it would start at once on node")
    assert not Job.objects.exists()
    page.click("main footer button.primary")
    expect(page.locator("#toasts")).to_contain_text("is submitted")
    page.click("#b-again")
    expect(page.locator("h1")).to_contain_text("again")
    expect(page.locator("#id_script")).to_have_value(Job.objects.get().script)


def test_a_log_is_searched_and_its_times_shown(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.print("one line\nan Error here\n")
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    expect(page.locator("#log .at").first).not_to_be_visible()
    page.check("[data-times]")
    expect(page.locator("#log .at").first).to_be_visible()
    page.fill("#log-q", "error")
    expect(page.locator("#log-found mark")).to_have_text("Error")


def test_the_charts_follow_the_chosen_time(visit: Visit, admin: User, nodes: Nodes) -> None:
    from tests.console.test_pages_access import hours_of_figures

    hours_of_figures()
    page = visit(admin).live("/")
    expect(page.locator(".chart canvas")).to_have_count(4)
    expect(page.locator("[data-legend=cores]")).to_contain_text("12 all")
    with page.expect_response(lambda answer: "hours=24" in answer.url):
        page.click("text=1 day")
    expect(page.locator(".chart canvas")).to_have_count(4)
