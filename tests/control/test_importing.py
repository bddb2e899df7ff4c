"""An exported generation comes back as a job of its own: only with this cluster's signature, complete only when its images are there."""

from __future__ import annotations

import copy
import datetime
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from checkpoints.models import Generation, Replica, Resume, Snapshot
from checkpoints.services.importing import import_generation
from checkpoints.services.keeping import delete_generation
from clusteros.core.problems import Problem
from jobs.models import Job
from jobs.services import release_job
from nodes.models import Node
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db


@pytest.fixture
def certificate(nodes: Nodes, alice: User) -> Any:
    """Of a generation whose images nobody has any more, of a job that is forgotten."""
    job = nodes.run_job(alice, pods=2, name="heat")
    generation = nodes.generation(job)
    generation.refresh_from_db()
    found = copy.deepcopy(generation.certificate)
    for held in nodes.images.values():
        held.clear()
    Replica.objects.all().delete()
    Generation.objects.filter(job=job).delete()
    return found


def shelf(path: Path, certificate: Any) -> Path:
    with tarfile.open(path, "w") as tar:
        data = json.dumps(certificate).encode()
        about = tarfile.TarInfo("job1-g1/certificate.json")
        about.size = len(data)
        tar.addfile(about, io.BytesIO(data))
    return path


def test_it_waits_for_its_images_and_comes_back_when_released(nodes: Nodes, alice: User, certificate: Any) -> None:
    generation = import_generation(certificate)
    job = generation.job
    assert (job.state, job.owner, job.name, job.pods) == ("held", alice, "heat", 2)
    nodes.tick()
    generation.refresh_from_db()
    assert generation.state == "storing"
    digests = set(Snapshot.objects.filter(generation=generation).values_list("digest", flat=True))
    for name in ("node1", "node2"):
        nodes.images[name] |= digests
        nodes.heartbeat(name)
    nodes.tick()
    generation.refresh_from_db()
    assert generation.state == "complete"
    assert generation.certificate["job"]["id"] == str(job.pk)
    assert nodes.asked("keep_certificate")
    release_job(job, acting_user=alice)
    nodes.tick()
    assert nodes.finish(Resume.objects.get(job=job)).state == "done"
    job.refresh_from_db()
    assert job.state == "running"


def test_images_that_are_just_being_removed_are_not_counted_on(nodes: Nodes, alice: User) -> None:
    job = nodes.run_job(alice, pods=2)
    generation = nodes.generation(job)
    nodes.generation(job)
    generation.refresh_from_db()
    delete_generation(generation)
    nodes.tick()
    with pytest.raises(Problem, match="just being removed from node"):
        import_generation(generation.certificate)


def test_images_that_do_not_appear_fail_it_in_words(nodes: Nodes, certificate: Any) -> None:
    generation = import_generation(certificate)
    Generation.objects.filter(pk=generation.pk).update(deadline=timezone.now() - datetime.timedelta(seconds=1))
    nodes.tick()
    generation.refresh_from_db()
    assert (generation.state, generation.reason) == ("failed", "it was not stored in time")


@pytest.mark.parametrize("change", [
    lambda c: c["job"].update(owner="root"), lambda c: c["pods"][0].update(digest="f" * 64), lambda c: c.update(signature="0" * 64),
    lambda c: c.clear(), lambda c: c.update(version=2),
])  # fmt: skip
def test_what_this_cluster_has_not_signed_is_refused(certificate: Any, change: Any) -> None:
    change(certificate)
    before = Job.objects.count()
    with pytest.raises(Problem, match="only generations that this cluster exported"):
        import_generation(certificate)
    assert Job.objects.count() == before
    assert not User.objects.filter(username="root").exists()


def test_the_command_says_what_to_do(nodes: Nodes, certificate: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="clusteros node import"):
        call_command("import_generation", str(shelf(tmp_path / "kept.tar", certificate)), wait=0.1)
    assert Job.objects.filter(state="held", name="heat").exists()
    (tmp_path / "other.tar").write_bytes(b"x" * 20_000)
    for path, words in (("other.tar", "cannot be read"), ("none.tar", "cannot be read")):
        with pytest.raises(CommandError, match=words):
            call_command("import_generation", str(tmp_path / path))
    Node.objects.update(state="lost")
    with pytest.raises(CommandError, match="no node is up"):
        call_command("import_generation", str(tmp_path / "kept.tar"))
