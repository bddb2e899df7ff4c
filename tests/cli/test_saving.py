"""Files that the command line saves: a core, a whole generation; under their names only when they are whole."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from nodes.models import Node
from tests.control.cluster import Nodes, digest_of
from tests.control.stores import TwoPods, give_images, serving
from tests.control.test_inside import Store

pytestmark = pytest.mark.django_db(transaction=True)
RunAs = Callable[..., Callable[..., Any]]
NOT_FOUND, IO = 83, 74


def test_a_process_of_a_generation_is_listed_and_saved(
    run_as: RunAs, demo: User, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = nodes.run_job(demo, pods=1)
    generation = nodes.generation(job)
    holder = Node.objects.filter(replicas__digest=digest_of(generation, 0))[0]
    monkeypatch.setattr(Store, "secret", holder.secret)
    monkeypatch.setattr(Store, "digest", digest_of(generation, 0))
    run, path = run_as(demo), tmp_path / "heat.core"
    with serving(Store) as url:
        Node.objects.update(store_url=url, secret=holder.secret)
        assert "/work/heat" in run("processes", str(job.number), "1").stdout
        saved = run("core", str(job.number), "1", "2", "-o", str(path))
        assert saved.exit_code == 0, saved.stderr
        assert path.read_bytes() == b"\x7fELF core"
        refused = run("core", str(job.number), "1", "3", "-o", str(tmp_path / "none"))
    assert refused.exit_code == NOT_FOUND
    assert sorted(tmp_path.glob("*core*")) == [path], "a refusal leaves no file"


def test_a_generation_is_saved_as_one_file_or_not_at_all(
    run_as: RunAs, demo: User, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = nodes.run_job(demo, pods=2)
    give_images(nodes.generation(job))
    run, path = run_as(demo), tmp_path / "kept.tar"
    with serving(TwoPods) as url:
        Node.objects.update(store_url=url)
        saved = run("export", str(job.number), "1", "-o", str(path))
        assert saved.exit_code == 0, saved.stderr
        monkeypatch.setattr(TwoPods, "spoil", staticmethod(lambda stream: stream[:-1]))
        broken = run("export", str(job.number), "1", "-o", str(tmp_path / "broken.tar"))
    assert broken.exit_code == IO
    assert "broke off" in broken.stderr
    assert run("export", str(job.number), "9", "-o", str(tmp_path / "none.tar")).exit_code == NOT_FOUND
    assert list(tmp_path.glob("*.tar*")) == [path], "what broke off leaves no file"
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(path) as tar:
        assert tar.getnames()[-1] == f"job{job.number}-g1/end"
