"""Directories that nodes share: what is asked for, what is believed of them, and jobs that come back from there alone."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from checkpoints.models import Generation, Resume, SharedImage, SharedMount
from checkpoints.services import take_generation
from checkpoints.services.keeping import delete_generation
from checkpoints.services.plans import check_images
from checkpoints.services.replicas import ask_missing_replicas
from checkpoints.services.shared import in_shared, places_json
from clusteros.environment import environment
from nodes.models import Command, Node
from nodes.services import join_node, lose_node, make_join_token
from tests.control.cluster import Nodes, digest_of

pytestmark = pytest.mark.django_db
PLACE = "f" * 32


def view(**more: Any) -> dict[str, Any]:
    return {"id": PLACE, "directory": "/mnt/images", "ok": True, "words": "", "bytes": 7, "free_bytes": 9, **more}


def mount(nodes: Nodes, *names: str, **more: Any) -> None:
    for name in names or nodes.pods:
        nodes.heartbeat(name, shared=view(**more))


def obey_sharing(nodes: Nodes) -> list[str]:
    """Write what is asked for; who was asked."""
    asked = nodes.asked("share_images")
    for row in asked:
        body = {"place": row.body["place"], "act": "share", "images": row.body["images"], "failed": []}
        nodes.report(row.node.name, "shared", body)
    return [row.node.name for row in asked]


def shared_generation(nodes: Nodes) -> Generation:
    """Complete, with every image in the place."""
    job = nodes.run_job()
    mount(nodes)
    generation = nodes.generation(job)
    nodes.tick()
    assert len(obey_sharing(nodes)) == 3
    assert in_shared(digest_of(generation, pod) for pod in range(3)) == {digest_of(generation, pod) for pod in range(3)}
    return generation


def lose_all_holders(nodes: Nodes) -> None:
    for node in Node.objects.filter(replicas__complete=True).distinct():
        lose_node(node, "its disk burned")


def test_images_are_written_there_by_who_holds_them_and_once(nodes: Nodes) -> None:
    shared_generation(nodes)
    nodes.tick()
    assert nodes.asked("share_images") == []


def test_a_job_whose_nodes_are_all_gone_comes_back_from_there(nodes: Nodes) -> None:
    generation = shared_generation(nodes)
    job = generation.job
    lose_all_holders(nodes)
    assert Node.objects.filter(state="up").count() == 0
    assert check_images(generation)["ok"] is False, "nobody sees the place"
    _, token = make_join_token()
    join_node(
        token, name="node9", address="10.0.0.9", store_port=7800, store_url="http://10.0.0.9:7800", cores=64, mem_bytes=1 << 40,
        version="test",
    )  # fmt: skip
    nodes.pods["node9"], nodes.images["node9"] = {}, set()
    nodes.heartbeat("node9", shared=view())
    assert check_images(generation) == {"name": "images", "ok": True, "words": "3 images are in a shared directory alone"}
    for _ in range(6):
        nodes.tick()
        nodes.obey()
        nodes.heartbeat("node9", shared=view())
    prefetched = Command.objects.filter(kind="prefetch", node__name="node9")
    assert {tuple(row.body["sources"]) for row in prefetched} == {()}
    resume = Resume.objects.filter(job=job).latest("asked_at")
    assert (resume.cause, resume.generation) == ("recovery", generation)
    assert resume.state in ("ending", "restoring"), resume.reason


def test_images_that_lie_there_alone_come_to_nodes_again(nodes: Nodes) -> None:
    generation = shared_generation(nodes)
    digests = {digest_of(generation, pod) for pod in range(3)}
    Generation.objects.exclude(pk=generation.pk).delete()
    lose_all_holders(nodes)
    _, token = make_join_token()
    for number, name in enumerate(("blind", "seeing")):
        join_node(
            token, name=name, address=f"10.0.1.{number}", store_port=7800, store_url=f"http://10.0.1.{number}:7800",
            cores=1, mem_bytes=1 << 20, version="test",
        )  # fmt: skip
        nodes.pods[name], nodes.images[name] = {}, set()
    nodes.heartbeat("blind")
    nodes.heartbeat("seeing", shared=view())
    ask_missing_replicas(timezone.now(), "complete")
    asked = nodes.asked("prefetch")
    assert {(row.node.name, tuple(row.body["sources"])) for row in asked} == {("seeing", ())}, "the other has nobody to fetch from"
    assert {digest for row in asked for digest in row.body["images"]} == digests
    nodes.obey()
    ask_missing_replicas(timezone.now(), "complete")
    assert {(row.node.name, tuple(row.body["sources"])) for row in nodes.asked("prefetch")} == {("blind", ("seeing",))}


def test_what_is_not_seen_is_not_forgotten(nodes: Nodes) -> None:
    generation = shared_generation(nodes)
    SharedImage.objects.update(since=timezone.now() - datetime.timedelta(hours=1))
    mount(nodes, ok=False, words="it is not mounted", images=[])
    assert SharedImage.objects.filter(complete=True).count() == 3
    assert in_shared([digest_of(generation, 0)]) == set(), "but not counted on either"
    mount(nodes, id="", ok=False)
    assert SharedImage.objects.count() == 3
    mount(nodes, images=[digest_of(generation, 0)])
    assert in_shared([digest_of(generation, pod) for pod in range(3)]) == {digest_of(generation, 0)}, "what is seen to be gone is"


def test_a_view_that_may_be_older_than_the_last_word_removes_nothing(nodes: Nodes) -> None:
    shared_generation(nodes)
    mount(nodes, images=[])
    assert SharedImage.objects.filter(complete=True).count() == 3


def test_another_directory_at_the_same_path_is_another_place(nodes: Nodes) -> None:
    generation = shared_generation(nodes)
    mount(nodes, id="e" * 32, images=[])
    assert in_shared([digest_of(generation, 0)]) == set()
    assert SharedImage.objects.filter(place=PLACE, complete=True).count() == 3
    nodes.tick()
    assert {row.body["place"] for row in nodes.asked("share_images")} == {"e" * 32}


def test_a_failure_is_kept_and_tried_again_later(nodes: Nodes) -> None:
    job = nodes.run_job()
    mount(nodes)
    generation = nodes.generation(job)
    nodes.tick()
    [row, *_] = nodes.asked("share_images")
    failed = [{"digest": row.body["images"][0], "code": "NO_SPACE", "message": "the shared directory /mnt/images: No space left on device"}]
    nodes.report(row.node.name, "shared", {"place": PLACE, "act": "share", "images": [], "failed": failed})
    nodes.tick()
    assert row.key not in {each.key for each in nodes.asked("share_images")}
    SharedImage.objects.update(since=timezone.now() - datetime.timedelta(hours=1))
    nodes.tick()
    assert row.key in {each.key for each in nodes.asked("share_images")}
    generation.refresh_from_db()
    assert generation.state == "complete", "what is written there too keeps nobody"


def test_images_of_deleted_generations_are_taken_out_by_one_node(nodes: Nodes) -> None:
    first = shared_generation(nodes)
    nodes.generation(first.job)
    delete_generation(Generation.objects.get(pk=first.pk))
    nodes.tick()
    rows = nodes.asked("unshare_images")
    assert {row.body["images"][0] for row in rows} == {digest_of(first, pod) for pod in range(3)}
    assert len({row.node.name for row in rows}) == 1
    nodes.tick()
    assert len(nodes.asked("unshare_images")) == 3, "asked once"
    for row in rows[:2]:
        nodes.report(row.node.name, "shared", {"place": PLACE, "act": "unshare", "images": row.body["images"], "failed": []})
    assert len(nodes.asked("unshare_images")) == 1
    failed = [{"digest": rows[2].body["images"][0], "code": "BUSY", "message": "the shared directory does not answer"}]
    nodes.report(rows[2].node.name, "shared", {"place": PLACE, "act": "unshare", "images": [], "failed": failed})
    nodes.tick()
    assert [row.key for row in nodes.asked("unshare_images")] == [rows[2].key], "asked again"
    assert not SharedImage.objects.filter(digest=digest_of(first, 0)).exists()


def test_it_may_stand_for_a_replica(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "shared_counts", True)
    job = nodes.run_job()
    mount(nodes)
    generation = take_generation(job)
    nodes.capture(generation, settle=False)
    nodes.tick()
    assert nodes.asked("prefetch") == []
    obey_sharing(nodes)
    generation.refresh_from_db()
    assert generation.state == "complete"
    mount(nodes, ok=False, words="the file server is gone")
    nodes.tick()
    assert {row.body["images"][0] for row in nodes.asked("prefetch")} == {digest_of(generation, pod) for pod in range(3)}, "replicas again"


def test_without_a_place_replicas_are_asked_for_as_ever(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "shared_counts", True)
    generation = nodes.generation(nodes.run_job())
    assert generation.state == "complete"


def test_the_store_shows_it_as_a_place(nodes: Nodes) -> None:
    shared_generation(nodes)
    [shown] = places_json()
    assert (shown["directory"], shown["ok"], shown["images"], shown["bytes"], shown["free_bytes"]) == ("/mnt/images", True, 3, 7, 9)
    assert shown["nodes"] == ["node1", "node2", "node3"]
    mount(nodes, "node2", ok=False, words="it does not answer")
    [shown] = places_json()
    assert (shown["nodes"], shown["words"]) == (["node1", "node3"], "node2: it does not answer")
    nodes.heartbeat("node2", shared=view(id="", ok=False, words="it is not mounted"))
    assert [each["words"] for each in places_json()] == ["", "node2: it is not mounted"]
    for name in nodes.pods:
        nodes.heartbeat(name, doctor={"kernel": "6.1"})
    assert places_json() == []
    assert SharedMount.objects.count() == 0


@pytest.mark.parametrize("body", [{"place": "none", "act": "share", "images": []}, {"act": "share"}])
def test_a_report_of_an_unknown_place_is_refused(nodes: Nodes, body: dict[str, Any]) -> None:
    nodes.report("node1", "shared", body)
    assert SharedImage.objects.count() == 0
