"""A dry run asks the nodes themselves: processor features, kernel, files changed since. Here store servers answer as the protocol
says; what the engine answers is tested beside it (t_files_host.py) and at the node's door (tests/node/test_fetch.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from checkpoints.models import Generation, NodeSample, Resume
from checkpoints.services import figures, resume_run
from jobs.models import Job
from nodes.models import Command, Node
from tests.control.cluster import Nodes, digest_of
from tests.control.stores import DEAD, FakeStore, serving
from tests.control.test_api import send

pytestmark = pytest.mark.django_db
Rest = Callable[..., Client]
FITS = {"fits": True, "words": "", "changed": []}


class Machine(FakeStore):
    """Every node's store at once: whose ticket it is tells which node is asked."""

    secrets: dict[str, str] = {}
    answers: dict[str, Any] = {}
    manifests: dict[str, bytes] = {}

    def do_GET(self) -> None:
        digest = self.path.split("/")[2]
        known = self._who() and digest in self.manifests
        self.say(200, self.manifests[digest]) if known else self.say(404, b"not here")

    def do_POST(self) -> None:
        body = self.body()
        said = self.answers.get(self._who(), FITS)
        if isinstance(said, bytes):
            return self.say(500, said)
        assert self.path == "/fit"
        assert body in self.manifests.values()
        self.say_json(200, said)

    def _who(self) -> str:
        return next((name for name, secret in self.secrets.items() if self.may_read(secret)), "")


@pytest.fixture
def job(nodes: Nodes, alice: User) -> Iterator[Job]:
    """Three pods on three nodes, one generation, and all nodes answer."""
    found = nodes.run_job(alice)
    generation = nodes.generation(found)
    Machine.secrets = dict(Node.objects.values_list("name", "secret"))
    Machine.answers = {}
    Machine.manifests = {digest_of(generation, pod): f"manifest {pod}".encode() for pod in range(3)}
    with serving(Machine) as url:
        Node.objects.update(store_url=url)
        yield found


def checks(client: Client, job: Job, path: str = "rollback", **more: Any) -> tuple[bool, dict[str, list[Any]]]:
    plan = send(client, "POST", f"/jobs/{job.number}/{path}", {"generation": 1, "dry_run": True, **more}).json()
    by_name: dict[str, list[Any]] = {}
    for check in plan["checks"]:
        by_name.setdefault(check["name"], []).append((check["ok"], check.get("known", True), check["words"]))
    return plan["possible"], by_name


def test_machines_that_can_and_files_that_are_the_same_are_said(job: Job, alice: User, rest: Rest) -> None:
    for path in ("rollback", "copy"):
        possible, said = checks(rest(alice), job, path)
        assert possible
        assert said["machine"][0][2].startswith("node1, node2, node3 can run it: kernel"), said
        assert said["files"] == [(True, True, "every open file outside the images is as it was")]


def test_a_processor_that_lacks_something_is_named_and_makes_it_impossible(job: Job, alice: User, rest: Rest) -> None:
    Machine.answers["node2"] = {"fits": False, "words": "the processor of this machine lacks avx512f", "changed": []}
    possible, said = checks(rest(alice), job)
    assert not possible
    assert said["machine"] == [(False, True, "node2: the processor of this machine lacks avx512f")]
    possible, _ = checks(rest(alice), job, placement={"0": "node1", "1": "node1", "2": "node3"})
    assert possible


def test_changed_files_are_named_and_stop_only_those_who_said_so(job: Job, alice: User, rest: Rest) -> None:
    words = "the open file /home/data, which no image carries, has grown since the snapshot"
    Machine.answers["node1"] = FITS | {"changed": [words]}
    possible, said = checks(rest(alice), job)
    assert possible
    assert [(ok, known) for ok, known, _ in said["files"]] == [(True, False)]
    assert f"{words}; it is cut back, its tail kept" in said["files"][0][2]
    Job.objects.update(files_policy="refuse")
    assert not checks(rest(alice), job)[0]


def test_who_does_not_answer_is_named_and_stops_nothing(job: Job, alice: User, rest: Rest) -> None:
    Machine.answers["node3"] = b"out of order"
    Node.objects.filter(name="node2").update(store_url=DEAD)
    possible, said = checks(rest(alice), job)
    assert possible
    unknown = [words for ok, known, words in said["machine"] if not known]
    assert len(unknown) == 2
    assert "node2 did not answer" in unknown[0]
    assert "node3 answered 500: out of order" in unknown[1]
    assert "files" not in said


def test_a_rollback_to_an_unfit_machine_is_given_up_before_anything_ends(nodes: Nodes, alice: User) -> None:
    job = nodes.run_job(alice)
    generation = nodes.generation(job)
    resume = resume_run(job, generation, cause="rollback", acting_user=alice)
    nodes.tick()
    row = nodes.asked("prefetch")[0]
    assert row.body["fit"] == "restore"
    images, name = row.body["images"], row.node.name
    nodes.report(name, "images", {"digests": images, "failed": []})  # a replica's fetch: nobody looked
    assert Command.objects.get(pk=row.pk).done_at is None
    unfit = [{"digest": images[0], "code": "UNSUPPORTED", "message": "the processor of this machine lacks avx512f"}]
    nodes.report(name, "images", {"digests": images, "failed": [], "fit": "restore", "unfit": unfit})
    nodes.tick()
    resume.refresh_from_db()
    job.refresh_from_db()
    assert resume.state == "failed"
    assert "lacks avx512f" in resume.reason
    assert (job.state, job.current_run.state) == ("running", "running")
    assert Generation.objects.get(pk=generation.pk).snapshots.first().digest  # type: ignore[attr-defined]
    assert Resume.objects.count() == 1
    node = Node.objects.get(name=name)
    assert node.replicas.filter(digest=images[0], complete=True).exists(), "it holds the image all the same"  # type: ignore[attr-defined]


# ---- then and now


def test_what_a_job_used_then_stands_beside_what_it_uses_now(nodes: Nodes, alice: User, bob: User, rest: Rest) -> None:
    job = nodes.run_job(alice, pods=1)
    pod = job.current_run.pods.get()
    first = {"pid": 2, "comm": "mpirun", "state": "S", "mem_bytes": 1000}
    nodes.pod_report(pod, "running", pids=1, mem_bytes=1 << 20, cpu_s=1.5, processes=[first])
    nodes.generation(job)
    second = {"pid": 7, "comm": "heat", "state": "R", "mem_bytes": 5000}
    nodes.pod_report(pod, "running", pids=1, mem_bytes=3 << 20, cpu_s=4.0, processes=[second])
    seen = send(rest(alice), "GET", f"/jobs/{job.number}/generations/1/difference").json()
    assert (seen["then"]["mem_bytes"], seen["now"]["mem_bytes"]) == (1 << 20, 3 << 20)
    assert (seen["then"]["cpu_s"], seen["now"]["cpu_s"]) == (1.5, 4.0)
    assert seen["begun"] == [{"pod": 0, "pid": 7, "name": "heat"}]
    assert seen["gone"] == [{"pod": 0, "pid": 2, "name": "mpirun"}]
    assert send(rest(bob), "GET", f"/jobs/{job.number}/generations/1/difference").status_code == 404
    Generation.objects.get(job=job).snapshots.update(resources={})  # type: ignore[attr-defined]
    assert send(rest(alice), "GET", f"/jobs/{job.number}/generations/1/difference").json()["then"] is None


# ---- a node over time


def test_a_node_has_a_past_for_its_charts(nodes: Nodes, alice: User, rest: Rest) -> None:
    job = nodes.run_job(alice, ranks_per_pod=2)
    nodes.heartbeat("node1", net_in_bytes_per_s=2_000_000, net_out_bytes_per_s=500)
    NodeSample.objects.all().delete()
    assert figures.take_node_samples(timezone.now())
    seen = send(rest(alice), "GET", "/nodes/node1/samples?hours=1").json()
    here = sum(pod.node.name == "node1" for pod in job.current_run.pods.select_related("node"))
    assert (seen["pods"][-1], seen["cores_used"][-1], seen["net_in_bytes_per_s"][-1]) == (here, 2 * here, 2_000_000)
    assert send(rest(alice), "GET", "/nodes/nowhere/samples").status_code == 404
    assert send(rest(alice), "GET", "/nodes/node1/samples?hours=1000").status_code == 422


def test_of_many_nodes_each_is_sampled_once_a_minute(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MANY_NODES", 2)
    now = timezone.now()
    taken = [figures.take_node_samples(now + timedelta(seconds=after)) for after in (0, 15, 45, 60)]
    assert taken == [True, False, False, True]
    assert NodeSample.objects.count() == 6
    figures.forget_samples(now + timedelta(days=3))
    assert not NodeSample.objects.exists()
