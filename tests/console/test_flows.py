"""What people do at the console, from the first click to what the cluster is asked: the browser is real, so are the services."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Route, expect

from checkpoints.models import Generation, Resume
from checkpoints.services import take_generation
from clusteros.accounts.models import ApiToken
from jobs.models import Job
from nodes.models import JoinToken, Node
from tests.console.conftest import NARROW, WIDE, Visitor
from tests.console.story import Story
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db(transaction=True)
Visit = Callable[..., Visitor]
AT_ONCE_S = 5.0
"""Generous on purpose: the machine of the tests is shared. The page's own delay is at most a quarter of a second."""


# ---- the door


def test_nobody_gets_in_without_a_password_that_fits(visit: Visit, demo: User) -> None:
    visitor = visit(None)
    page = visitor.open("/jobs/")
    page.wait_for_url("**/login/?next=/jobs/")
    page.fill("#id_username", "demo")
    page.fill("#id_password", "wrong")
    page.click("text=Log in")
    expect(page.locator("[role=alert]")).to_contain_text("do not belong together")
    visitor.shot("login-wrong")
    page.fill("#id_password", "demo-password")
    page.click("text=Log in")
    page.wait_for_url("**/jobs/")
    page.click("text=log out")
    page.wait_for_url("**/login/")


# ---- submitting


@pytest.mark.parametrize(
    ("fields", "at", "words"),
    [
        ({"command": ""}, "command", "say what to run"),
        ({"command": "echo 'open"}, "command", "quotes do not match"),
        ({"command": "x", "mem": "lots"}, "mem", "not a size"),
        ({"command": "x", "walltime": "soon"}, "walltime", "not a time"),
        ({"command": "x", "pods": "0"}, "pods", "greater than or equal to 1"),
        ({"command": "x", "interval": "0s"}, "interval", "between 1 and"),
    ],
)
def test_what_is_wrong_in_the_form_stands_at_its_field(visit: Visit, demo: User, fields: dict[str, str], at: str, words: str) -> None:
    page = visit(demo).open("/jobs/new/")
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)
    page.click("main button.primary")
    expect(page.locator(f".field.wrong:has([name={at}])")).to_contain_text(words)
    assert Job.objects.count() == 0


def test_an_impossible_size_is_refused_in_words(visit: Visit, demo: User, nodes: Nodes) -> None:
    visitor = visit(demo, NARROW)
    page = visitor.open("/jobs/new/")
    page.fill("[name=command]", "./program")
    page.fill("[name=cores_per_rank]", "9")
    page.click("main button.primary")
    expect(page.locator("[role=alert]").first).to_contain_text("needs 9 cores on one node, the largest has 4")
    assert page.input_value("[name=command]") == "./program", "what was typed is kept"
    visitor.shot("submit-refused")
    assert Job.objects.count() == 0


def test_a_command_with_files_is_submitted_and_its_page_opens(visit: Visit, demo: User, nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "city.png").write_bytes(b"not really a picture")
    page = visit(demo).open("/jobs/new/")
    page.fill("[name=command]", "mpirun ./heat 'my city.png'")
    page.set_input_files("[name=uploads]", tmp_path / "city.png")
    page.fill("[name=pods]", "3")
    page.fill("[name=mem]", "256M")
    page.fill("[name=interval]", "30s")
    page.click("main button.primary")
    page.wait_for_url("**/jobs/*/")
    expect(page.locator("#toasts")).to_contain_text("is submitted")
    job = Job.objects.get()
    assert job.command == ["mpirun", "./heat", "my city.png"]
    assert (job.pods, job.mem_bytes, job.interval_s, job.owner) == (3, 256 << 20, 30, demo)
    assert [file.path for file in job.job_files.all()] == ["city.png"]


def test_a_script_is_submitted_as_it_was_written(visit: Visit, demo: User, nodes: Nodes) -> None:
    page = visit(demo).open("/jobs/new/")
    page.locator(".switch").get_by_text("Script").click()
    page.fill("[name=script]", "no interpreter")
    page.click("main button.primary")
    expect(page.locator(".field.wrong:has([name=script])")).to_contain_text("#!/bin/sh")
    page.fill("[name=script]", "#!/bin/sh\necho a\n")
    page.click("main button.primary")
    page.wait_for_url("**/jobs/*/")
    assert Job.objects.get().script == "#!/bin/sh\necho a\n"


# ---- live


def test_a_page_shows_every_change_without_being_reloaded(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    visitor = visit(demo)
    page = visitor.live(f"/jobs/{story.job.number}/")
    page.evaluate("window.neverReloaded = true")
    expect(page.locator("#tree")).to_contain_text("No generations yet")
    begun = time.monotonic()
    taken = take_generation(story.job)
    page.locator("#tree .state", has_text="taking").wait_for()
    assert time.monotonic() - begun < AT_ONCE_S
    nodes.capture(taken)
    expect(page.locator("#g1")).to_contain_text("pause 12 ms")
    begun = time.monotonic()
    story.print("step 100 of 4000\n")
    page.locator("#log", has_text="step 100 of 4000").wait_for()
    assert time.monotonic() - begun < AT_ONCE_S
    story.print("step 200 of 4000\n")
    expect(page.locator("#log")).to_contain_text("step 200 of 4000")
    assert page.inner_text("#log").count("step 100") == 1, "what was shown is not shown again"
    assert page.evaluate("window.neverReloaded") is True


def test_a_rollback_is_seen_in_log_and_tree_while_it_happens(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.print("before\n")
    story.generation()
    story.print("after\n")
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    story.roll_back(1)
    expect(page.locator("#head")).to_contain_text("run 2")
    story.print("again\n")
    expect(page.locator("#log .cut")).to_contain_text("back at generation 1")
    expect(page.locator("#tree .now-row")).to_contain_text("generation 1")
    expect(page.locator("#tree .tag", has_text="safety")).to_have_count(1)


def test_the_list_of_jobs_filters_as_one_types_and_shows_new_jobs_by_itself(visit: Visit, demo: User, nodes: Nodes) -> None:
    from jobs.services import submit_job
    from tests.control.cluster import request

    submit_job(demo, request(name="alpha"))
    page = visit(demo).live("/jobs/")
    expect(page.locator("#jobs")).to_contain_text("alpha")
    submit_job(demo, request(name="beta"))
    expect(page.locator("#jobs")).to_contain_text("beta")
    page.fill("#q", "alp")
    expect(page.locator("#jobs")).not_to_contain_text("beta")
    page.fill("#q", "nothing like it")
    expect(page.locator("#jobs")).to_contain_text("No job matches")


# ---- buttons


def test_checkpoint_is_one_click_and_a_second_one_is_refused_in_words(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    page.click("#b-checkpoint")
    expect(page.locator("#toasts")).to_contain_text("Generation 1 is being taken")
    expect(page.locator("#tree")).to_contain_text("taking")
    page.click("#b-checkpoint")
    expect(page.locator("#toasts .bad")).to_contain_text("one at a time")
    assert Generation.objects.filter(job=story.job).count() == 1


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_rollback_says_what_is_lost_and_goes_where_it_was_told(visit: Visit, demo: User, nodes: Nodes, size: dict[str, int]) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    story.print("a line that will be undone\n")
    visitor = visit(demo, size)
    page = visitor.live(f"/jobs/{story.job.number}/")
    page.click("#b-back-1")
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("back to generation 1?")
    expect(dialog).to_contain_text("of work after it is set aside")
    expect(dialog).to_contain_text("Take one now first: the present is kept")
    expect(dialog).to_contain_text("it is asked again before anything is ended")  # these nodes exist as messages only
    page.click("text=What it used then")
    expect(dialog.locator(".then-now")).to_contain_text("processes")
    page.click("text=Choose where it runs")
    page.select_option("#pod-0", "node3")
    expect(dialog).to_contain_text("pod 0 on node3")
    visitor.shot("rollback-dialog")
    page.click("#b-rollback")
    expect(page.locator("#toasts")).to_contain_text("goes back to generation 1")
    expect(dialog).not_to_be_visible()
    resume = Resume.objects.get()
    assert (resume.generation.number, resume.cause, resume.wanted) == (1, "rollback", {"0": "node3"})
    expect(page.locator(".steps")).to_contain_text("fetching the images")


def test_leaving_the_dialog_changes_nothing(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    page.click("#b-back-1")
    expect(page.locator("#dialog")).to_be_visible()
    page.click("text=Leave it as it is")
    expect(page.locator("#dialog")).not_to_be_visible()
    assert Resume.objects.count() == 0


def test_a_job_is_cancelled_only_after_a_word_about_the_loss(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    page.click("#b-cancel")
    expect(page.locator("#dialog")).to_contain_text("everything that it computed is lost")
    story.job.refresh_from_db()
    assert story.job.state == "running"
    page.click("text=End the job")
    expect(page.locator("#head .state")).to_have_text("cancelled")


def test_suspend_and_resume_follow_what_the_nodes_report(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    page.click("#b-suspend")
    expect(page.locator("#toasts")).to_contain_text("is being frozen")
    nodes.obey()
    expect(page.locator("#head .state").first).to_have_text("suspended")
    page.click("#b-resume")
    expect(page.locator("#toasts")).to_contain_text("runs on")
    nodes.obey()
    expect(page.locator("#head .state").first).to_have_text("running")


def test_a_click_while_a_part_is_on_its_way_is_not_lost(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    held: list[Route] = []
    page.route("**/part/head/", lambda route: held.append(route))
    with page.expect_request("**/part/head/"):
        page.evaluate("htmx.trigger('#head', 'live')")
    page.click("#b-suspend")
    for route in held:
        route.continue_()
    expect(page.locator("#toasts")).to_contain_text("is being frozen")
    page.unroute_all(behavior="ignoreErrors")


def test_generations_are_pinned_and_a_pinned_one_is_not_deleted(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    for _ in range(2):
        story.generation()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    page.click("#b-pin-1")
    expect(page.locator("#g1 .tag", has_text="pinned")).to_have_count(1)
    page.click("#b-delete-1")
    expect(page.locator("#dialog")).to_contain_text("cannot be undone")
    page.click("#dialog button.danger")
    expect(page.locator("#toasts .bad")).to_contain_text("unpin it first")
    page.click("#b-pin-1")
    expect(page.locator("#g1 .tag", has_text="pinned")).to_have_count(0)
    page.click("#b-delete-1")
    page.click("#dialog button.danger")
    expect(page.locator("#g1")).to_have_count(0)
    assert Generation.objects.get(job=story.job, number=1).state == "deleted"


def test_other_generations_are_kept_after_it_was_said_which_go(visit: Visit, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    for _ in range(4):
        story.generation()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    page.click("#b-keep")
    expect(page.locator("#keeps")).to_contain_text("what is kept now")
    page.fill("#dialog input[name=keep]", "1")
    page.fill("#dialog input[name=keep_every]", "2")
    page.press("#dialog input[name=keep_every]", "Tab")
    expect(page.locator("#keeps")).to_contain_text("2 generations would go at once, for good: 1, 3")
    assert Generation.objects.filter(job=story.job, state="complete").count() == 4, "it was only asked"
    page.fill("#dialog input[name=keep]", "0")
    page.press("#dialog input[name=keep]", "Tab")
    expect(page.locator("#keeps [role=alert]")).to_contain_text("Keep the last")
    page.click("#b-keep-now")
    expect(page.locator("#toasts .bad")).to_contain_text("Keep the last")
    page.click("#b-keep")
    page.fill("#dialog input[name=keep]", "1")
    page.fill("#dialog input[name=keep_every]", "2")
    page.click("#b-keep-now")
    expect(page.locator("#g1")).to_have_count(0)
    expect(page.locator("#g2")).to_have_count(1)
    story.job.refresh_from_db()
    assert (story.job.keep, story.job.keep_every, story.job.keep_per) == (1, 2, "")


# ---- nodes and tokens


def test_a_drain_says_what_will_happen_and_can_be_taken_back(visit: Visit, admin: User, nodes: Nodes) -> None:
    story = Story(nodes, admin)
    story.start()
    page = visit(admin).live("/nodes/")
    page.click("#b-drain-node1")
    expect(page.locator("#dialog")).to_contain_text("moves by a generation")
    page.click("#dialog button.primary")
    expect(page.locator("#nodes")).to_contain_text("draining")
    page.click("#b-undrain-node1")
    expect(page.locator("#b-drain-node1")).to_be_visible()
    assert Node.objects.get(name="node1").state == "up"


def test_a_node_that_falls_silent_is_seen_at_once(visit: Visit, admin: User, nodes: Nodes) -> None:
    from nodes.services import lose_node

    visitor = visit(admin)
    page = visitor.live("/")
    lose_node(Node.objects.get(name="node2"), "no heartbeat for 5.2 s")
    expect(page.locator(".tile.lost")).to_contain_text("Last heard")
    expect(page.locator("#events")).to_contain_text("no heartbeat for 5.2 s")
    visitor.shot("cluster-lost")


def test_a_join_token_is_shown_once_with_the_command_to_type(visit: Visit, admin: User) -> None:
    page = visit(admin).open("/nodes/join/")
    page.click("text=Make a join token")
    expect(page.locator("#join")).to_contain_text("clusteros node join http://127.0.0.1")
    assert JoinToken.objects.count() == 1
    page.goto(page.url)
    expect(page.locator("#join")).to_have_count(0)


def test_a_token_is_shown_once_works_and_is_revoked(visit: Visit, demo: User) -> None:
    from clusteros.client import Cluster, ClusterError

    visitor = visit(demo)
    page = visitor.open("/tokens/")
    page.fill("#name", "laptop")
    page.click("text=Make it")
    text = page.inner_text("#made")
    with Cluster(visitor.url, text) as cluster:
        assert cluster.me()["name"] == "demo"
        visitor.open("/tokens/")
        assert text not in page.content()
        page.click("text=Revoke")
        expect(page.locator("main")).to_contain_text("You have no tokens")
        with pytest.raises(ClusterError, match="revoked"):
            cluster.me()
    assert ApiToken.objects.get().revoked_at is not None
