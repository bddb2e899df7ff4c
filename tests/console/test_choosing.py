"""What the pages say before something is done, and what their forms then do, without a browser: dry runs, copies, the form
begun with a former job, arrays folded in the list, one verb for many jobs."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from checkpoints.models import Resume
from jobs.models import Job
from jobs.services import submit_array, submit_job
from tests.console.story import Story
from tests.console.test_doors import signed_in
from tests.control.cluster import Nodes, request

pytestmark = pytest.mark.django_db
FORM = {
    "kind": "command", "command": "./run 'a b'", "pods": "1", "ranks_per_pod": "1", "cores_per_rank": "1", "mem": "64M", "keep": "3",
    "interval": "30s",
}  # fmt: skip


@pytest.fixture
def demo(db: None) -> User:
    from clusteros.accounts.services import ensure_user

    return ensure_user("demo", password="demo-password")


@pytest.fixture
def nodes(db: None) -> Nodes:
    made = Nodes()
    made.beat()
    return made


def post(client: Client, path: str, form: dict[str, Any]) -> Any:
    return client.post(path, form, headers={"HX-Request": "true"})


def words_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def story_of(nodes: Nodes, demo: User) -> Story:
    story = Story(nodes, demo)
    story.start()
    story.print("0123456789")
    story.generation()
    story.print("one\ntwo\nthree\n")
    return story


def test_the_rollback_dialog_counts_the_lines_that_leave_the_log(nodes: Nodes, demo: User) -> None:
    story = story_of(nodes, demo)
    said = words_of(signed_in(demo).get(f"/jobs/{story.job.number}/generations/1/rollback/"))
    assert "<b>3 lines</b>" in said
    assert "Take one now first" in said


@pytest.mark.parametrize(("ticked", "wants"), [({"safety_asked": "1", "safety": "1"}, True), ({"safety_asked": "1"}, False), ({}, True)])
def test_the_present_is_kept_first_unless_that_is_unticked(nodes: Nodes, demo: User, ticked: dict[str, str], wants: bool) -> None:
    story = story_of(nodes, demo)
    assert post(signed_in(demo), f"/jobs/{story.job.number}/generations/1/rollback/now/", ticked).status_code == 200
    assert Resume.objects.get().wants_safety is wants


def test_a_copy_is_offered_with_its_plan_and_made(nodes: Nodes, demo: User) -> None:
    story, client = story_of(nodes, demo), signed_in(demo)
    path = f"/jobs/{story.job.number}/generations/1/copy/"
    said = words_of(client.get(path))
    assert "there is room for it beside what runs" in said
    assert "pod 0 on node" in said
    answer = post(client, path + "now/", {"name": "what-if", "hold": "1", "pod-0": "node2"})
    copy = Job.objects.get(name="what-if")
    assert f"Job {copy.number} grows from generation 1" in words_of(answer)
    assert (copy.state, copy.resume_nodes, copy.copied_generation) == ("held", {"0": "node2"}, 1)
    assert f"copy of {story.job.number}" in words_of(client.get("/jobs/"))


def test_a_form_that_is_only_tried_submits_nothing(nodes: Nodes, demo: User) -> None:
    said = words_of(signed_in(demo).post("/jobs/new/", {**FORM, "dry": "1"}))
    assert "It is acceptable:</strong> it would start at once on node" in said
    assert not Job.objects.exists()


def test_a_former_job_is_edited_and_submitted_again_with_its_files(nodes: Nodes, demo: User) -> None:
    client = signed_in(demo)
    client.post("/jobs/new/", {**FORM, "env": "A=b", "walltime": "2h", "uploads": SimpleUploadedFile("in.dat", b"data")})
    first = Job.objects.get()
    form = words_of(client.get(f"/jobs/new/?from={first.number}"))
    assert "./run &#x27;a b&#x27;" in form
    assert 'value="64M"' in form
    assert 'value="2h"' in form
    assert "<code>in.dat</code>" in form
    client.post("/jobs/new/", {**FORM, "name": "again", "from": first.number, "files": "1"})
    again = Job.objects.get(name="again")
    assert [file.path for file in again.job_files.all()] == ["in.dat"]


@pytest.mark.parametrize("slug", ["mpi", "python", "array"])
def test_every_template_can_be_submitted_as_it_is(nodes: Nodes, demo: User, slug: str) -> None:
    client = signed_in(demo)
    initial = client.get(f"/jobs/new/?template={slug}").context["form"]
    values = {name: initial.get_initial_for_field(field, name) for name, field in initial.fields.items() if name != "uploads"}
    answer = client.post("/jobs/new/", {name: value for name, value in values.items() if value not in (None, False)})
    assert answer.status_code == 302, answer.context["form"].errors
    assert Job.objects.exists()


def test_an_array_is_one_row_until_it_is_opened(nodes: Nodes, demo: User) -> None:
    client = signed_in(demo)
    made = submit_array(demo, request(pods=1, name="sweep"), list(range(5)))
    submit_job(demo, request(name="single"))
    Job.objects.filter(pk=made[0].pk).update(state="completed")
    folded = words_of(client.get("/jobs/?state=live"))
    assert folded.count("<strong>sweep</strong>") == 1
    assert "single" in folded
    opened = words_of(client.get(f"/jobs/?array={made[0].number}&state="))
    assert opened.count("<strong>sweep</strong>") == 5
    assert "single" not in opened


def test_one_verb_for_many_jobs_says_what_was_done_and_what_not(nodes: Nodes, demo: User) -> None:
    client = signed_in(demo)
    jobs = [submit_job(demo, request(pods=1)) for _ in range(3)]
    Job.objects.filter(pk=jobs[2].pk).update(state="completed")
    said = words_of(post(client, "/jobs/many/hold/", {"job": [str(job.number) for job in jobs]}))
    assert "2 jobs: hold. 1 refused" in said
    assert Job.objects.filter(state="held").count() == 2
    assert post(client, "/jobs/many/hold/", {}).status_code == 422


def test_nobody_moves_many_jobs_of_another(nodes: Nodes, demo: User) -> None:
    from clusteros.accounts.services import ensure_user

    job = submit_job(demo, request(pods=1))
    answer = post(signed_in(ensure_user("other", password="x")), "/jobs/many/cancel/", {"job": str(job.number)})
    assert answer.status_code == 409
    job.refresh_from_db()
    assert job.state == "queued"
