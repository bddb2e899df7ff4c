"""Pages about the whole: store, events, people, the system; pictures, the timeline, search in a log; without a browser."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from PIL import Image

from checkpoints.models import Sample
from checkpoints.services.figures import forget_samples, read_samples, take_sample
from clusteros.accounts.services import ensure_user, make_token
from clusteros.console import log, machines, timeline
from clusteros.core.models import Event
from jobs.blobs import put_blob
from jobs.models import OutputFile
from nodes.models import Node
from tests.console.story import Story
from tests.console.test_choosing import post, words_of
from tests.console.test_doors import signed_in
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo(db: None) -> User:
    return ensure_user("demo", password="demo-password")


@pytest.fixture
def admin(db: None) -> User:
    return ensure_user("admin", password="admin-password", admin=True)


@pytest.fixture
def nodes(db: None) -> Nodes:
    made = Nodes()
    made.beat()
    return made


# ---- store, events, people, about


def test_the_store_shows_ones_own_jobs_and_an_administrator_all(nodes: Nodes, demo: User, admin: User) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    assert "heat-city" in words_of(signed_in(demo).get("/store/"))
    assert "heat-city" in words_of(signed_in(admin).get("/store/"))
    assert "heat-city" not in words_of(signed_in(ensure_user("other", password="x")).get("/store/"))


def test_events_are_filtered_by_noun_by_words_and_by_whose_hand(nodes: Nodes, demo: User) -> None:
    story = Story(nodes, demo).told()
    client = signed_in(demo)
    assert "disk full" in words_of(client.get("/events/?q=disk"))
    assert "rollback to generation 2" in words_of(client.get("/events/part/?noun=resume"))
    audit = client.get("/events/?by=people").context["events"]
    assert audit
    assert all(event.actor for event in audit)
    assert next(e.job_number for e in client.get(f"/events/?q={story.job.number}").context["events"]) == story.job.number
    assert "Nothing of that kind" in words_of(client.get("/events/?q=zebra"))


def test_events_go_on_from_page_to_page_without_gap(demo: User) -> None:
    Event.objects.bulk_create(Event(kind="node.noted", words=f"n{number}") for number in range(250))
    client, seen, before = signed_in(demo), [], ""
    while before is not None:
        page = client.get(f"/events/part/?before={before}").context
        seen += [event.words for event in page["events"]]
        before = page["more"]
    assert seen == [f"n{number}" for number in reversed(range(250))]


def test_people_are_made_locked_out_and_let_in_by_an_administrator(demo: User, admin: User) -> None:
    client = signed_in(admin)
    assert "at least 8 characters" in words_of(client.post("/users/", {"name": "eve", "password": "short"}))
    assert "letters, digits" in words_of(client.post("/users/", {"name": "../x", "password": "long-enough"}))
    assert client.post("/users/", {"name": "eve", "password": "long-enough"}).status_code == 200
    assert "there is a user eve already" in words_of(client.post("/users/", {"name": "eve", "password": "long-enough"}))
    _, token = make_token(User.objects.get(username="eve"), "t", scopes=["read"])
    post(client, "/users/eve/active/", {"active": "0"})
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/api/v1/me", headers=headers).status_code == 401
    post(client, "/users/eve/active/", {"active": "1"})
    assert client.get("/api/v1/me", headers=headers).status_code == 200
    assert post(client, "/users/admin/active/", {"active": "0"}).status_code == 409
    assert {"user.made", "user.locked_out", "user.let_in"} <= set(Event.objects.values_list("kind", flat=True))
    assert signed_in(demo).get("/users/").status_code == 403
    assert post(signed_in(demo), "/users/admin/active/", {"active": "0"}).status_code == 403


def test_users_over_rest_are_an_administrators_business(demo: User, admin: User) -> None:
    _, token = make_token(admin, "t", scopes=["read", "write", "admin"])
    headers, client = {"Authorization": f"Bearer {token}"}, signed_in(demo)
    body = json.dumps({"name": "eve", "password": "long-enough"})
    made = client.post("/api/v1/users", body, content_type="application/json", headers=headers)
    assert (made.status_code, made.json()["active"]) == (201, True)
    locked = client.patch("/api/v1/users/eve", '{"active": false}', content_type="application/json", headers=headers)
    assert locked.json()["active"] is False
    assert [u["name"] for u in client.get("/api/v1/users", headers=headers).json()["items"]] == ["admin", "demo", "eve"]
    assert signed_in(demo).get("/api/v1/users").status_code == 403


def test_about_names_what_a_kernel_does_not_allow(nodes: Nodes, demo: User) -> None:
    probe = {"name": "freezer", "ok": False, "words": "w", "without": "no suspension", "reason": "no group"}
    Node.objects.filter(name="node1").update(doctor={"kernel": "6.18", "probes": [probe]})
    said = words_of(signed_in(demo).get("/about/"))
    assert "<strong>freezer</strong>: no suspension (no group)" in said


# ---- figures over time


def test_samples_are_taken_thinned_and_forgotten(nodes: Nodes, demo: User) -> None:
    nodes.run_job(demo, pods=3)
    now = timezone.now()
    first = take_sample(now)
    assert (first.cores, first.cores_used, first.running, first.nodes_up) == (12, 3, 1, 3)
    for step in range(1, 500):
        Sample.objects.create(**{f.name: getattr(first, f.name) for f in Sample._meta.fields if f.name not in ("id", "at")},
                              at=now - timedelta(seconds=15 * step))  # fmt: skip
    seen = read_samples(2, now)
    assert 200 < len(seen["at"]) <= 242
    assert seen["at"] == sorted(seen["at"])
    assert len(signed_in(demo).get("/figures/?hours=nonsense").json()["at"]) > 100
    forget_samples(now + timedelta(days=8))
    assert read_samples(1) == {name: [] for name in seen}


# ---- one job


def test_the_timeline_puts_what_happened_in_its_place() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    at = [begin + timedelta(seconds=10 * step) for step in range(11)]
    spans = timeline.states([(at[0], "queued"), (at[2], "running"), (at[10], "completed")], at[10])
    picture = timeline.draw([("job", spans, []), ("empty", [], []), ("marks", [], [(at[5], "good", "g")])], at[0], at[10])
    assert [lane.name for lane in picture.lanes] == ["job", "marks"]
    assert [(bar.x, bar.width, bar.title) for bar in picture.lanes[0].bars] == [(0, 20, "queued, 20 s"), (20, 80, "running, 1 min 20 s")]
    assert picture.lanes[1].marks[0].x == 50
    assert timeline.draw([], begin, begin).lanes == []


def test_a_jobs_page_tells_its_whole_life(nodes: Nodes, demo: User) -> None:
    story = Story(nodes, demo).told()
    said = words_of(signed_in(demo).get(f"/jobs/{story.job.number}/part/life/"))
    for words in ("run 2, from generation 2", "rollback to generation 2: done", "generation 3: failed", "generation 2: complete, pinned"):
        assert words in said, words


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (800, 400), "red").save(out, kind)
    return out.getvalue()


def left(story: Story, path: str, content: bytes) -> None:
    sha256, size = put_blob([content], max_bytes=1 << 24)
    run = story.job.current_run
    OutputFile.objects.create(run=run, pod=0, path=path, size_bytes=size, sha256=sha256, uploaded=True)


def test_pictures_are_shown_as_pictures_made_anew(nodes: Nodes, demo: User) -> None:
    story = Story(nodes, demo)
    story.start()
    left(story, "out.ppm", picture("PPM"))
    left(story, "fake.png", b"<script>alert(1)</script>")
    left(story, "notes.txt", b"hello")
    client, number = signed_in(demo), story.job.number
    shown = client.get(f"/jobs/{number}/pictures/0/out.ppm?small")
    assert shown["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(shown.content)).size == (320, 160)
    assert client.get(f"/jobs/{number}/pictures/0/fake.png").status_code == 404
    assert client.get(f"/jobs/{number}/pictures/0/notes.txt").status_code == 404
    assert words_of(client.get(f"/jobs/{number}/part/files/")).count("<img") == 2
    assert signed_in(ensure_user("other", password="x")).get(f"/jobs/{number}/pictures/0/out.ppm").status_code == 404


def test_the_log_is_searched_from_its_end(nodes: Nodes, demo: User) -> None:
    story = Story(nodes, demo)
    story.start()
    story.print("one <b>Error</b>\ntwo\n")
    story.print("an error again\n", pod=1, stream="stderr")
    client, number = signed_in(demo), story.job.number
    said = words_of(client.get(f"/jobs/{number}/log/find/?q=ERROR"))
    assert "2 lines with" in said
    assert "one &lt;b&gt;<mark>Error</mark>&lt;/b&gt;" in said
    assert "1 line with" in words_of(client.get(f"/jobs/{number}/log/find/?q=error&pod=1"))
    assert "0 lines" in words_of(client.get(f"/jobs/{number}/log/find/?q=zebra"))
    assert words_of(client.get(f"/jobs/{number}/log/find/?q=")) == ""


def test_a_time_stands_only_where_a_line_begins(nodes: Nodes, demo: User) -> None:
    story = Story(nodes, demo)
    story.start()
    for text in ("half ", "a line\n", "next\n"):
        story.print(text)
    pieces = log.read_tail(story.job, None, "", None, None, "").pieces
    assert pieces[0].at is not None
    assert pieces[1].at is None


# ---- many nodes


def test_many_nodes_are_a_map_and_a_list_of_pages(demo: User) -> None:
    Nodes(count=120).beat()
    client = signed_in(demo)
    said = words_of(client.get("/"))
    assert said.count('class="spot h0 up" href') == 120
    first = client.get("/nodes/").context
    assert len(first["nodes"]) == 50
    names = [view.node.name for view in first["nodes"]]
    rest: Any = client.get(f"/nodes/?after={first['more']}").context["nodes"]
    assert len({*names, *[view.node.name for view in rest]}) == 100
    assert len(client.get("/nodes/?q=node11").context["nodes"]) == 11


@pytest.mark.parametrize(("given", "heat"), [(0, 0), (1, 1), (4, 2), (7, 4), (8, 4), (12, 4)])
def test_the_heat_of_a_node_is_how_much_of_it_is_given(given: int, heat: int) -> None:
    assert machines.Spot("n", "up", 8, given, 0.0, 0, 0).heat == heat
