"""An exported generation comes back into a node's store; a file that is not a whole one, or not what it says, leaves nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from clusteros.owners import owner_tag
from native.engine import Engine, EngineError
from nodes.agent import importing
from nodes.agent.service import make_agent
from tests.node.test_fetch import Peer, image, is_whole, peers

__all__ = ["image", "peers"]
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="making a pod needs root"), pytest.mark.timeout(240)]
Members = dict[str, bytes]


@pytest.fixture
def exported(peers: dict[str, Peer], image: tuple[Path, str]) -> Members:
    """What is in the file, by name."""
    first, digest = peers["first"], image[1]
    place, engine = first.agent.images.place(digest), Engine()
    with engine.reading("image-chunks", "--image", place.path(digest)) as lines:
        wanted = b"".join(line.split()[0] + b"\n" for line in lines)
    with engine.reading("store-export", "--store", place.store, stdin=wanted) as stream:
        chunks = stream.read()
    told = {"job": {"owner": "alice"}, "pods": [{"pod": 0, "digest": digest, "bytes": 3 << 20}]}
    manifest = (place.path(digest) / "manifest").read_bytes()
    return {
        "README": b"", "certificate.json": json.dumps(told).encode(), "pod-0/manifest": manifest, "pod-0/chunks-00000": chunks, "end": b"",
    }  # fmt: skip


def write(path: Path, members: Members, *, folder: str = "job1-g1") -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(f"{folder}/{name}")
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def test_its_images_are_held_and_whole(peers: dict[str, Peer], image: tuple[Path, str], exported: Members, tmp_path: Path) -> None:
    asker = peers["asker"]
    for _ in range(2):  # again does no harm
        assert importing.import_file(asker.agent.config, write(tmp_path / "kept.tar", exported)) == [image[1]]
    assert is_whole(asker, image[1])
    assert asker.agent.images.inventory() == [{"digest": image[1], "bytes": 3 << 20}]
    assert asker.agent.images.place(image[1]).owner == owner_tag("alice")
    assert not list(asker.agent.images.root.rglob("importing-*"))


def test_an_import_that_was_killed_before_its_image_had_a_name_gives_it_one_at_the_next_start(
    peers: dict[str, Peer], image: tuple[Path, str], exported: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = peers["asker"]

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "give_name", killed)
    with pytest.raises(KeyboardInterrupt):
        importing.import_file(asker.agent.config, write(tmp_path / "kept.tar", exported))
    assert asker.agent.images.inventory() == []
    again = make_agent(asker.agent.config, asker.sent.append, Engine())
    assert again.images.inventory() == [{"digest": image[1], "bytes": 3 << 20}]
    assert is_whole(asker, image[1])


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: {key: data for key, data in members.items() if key != name}


def with_(name: str, data: bytes) -> Callable[[Members], Members]:
    return lambda members: {**members, name: data}


def flipped(members: Members) -> Members:
    data = bytearray(members["pod-0/chunks-00000"])
    data[len(data) // 2] ^= 1
    return {**members, "pod-0/chunks-00000": bytes(data)}


@pytest.mark.parametrize("change", [
    without("end"), without("certificate.json"), without("pod-0/manifest"), without("pod-0/chunks-00000"), flipped,
    with_("certificate.json", b"{"), with_("certificate.json", b'{"pods": [], "job": {"owner": "a"}}'),
    with_("certificate.json", b'{"pods": [{"pod": 0, "digest": "../../x", "bytes": 1}], "job": {"owner": "a"}}'),
    with_("certificate.json", b"[" * 100_000), with_("../../etc/x", b""), with_("pod-0/other", b""), with_("pod-0/manifest", b"x"),
    with_("pod-0/chunks-00000", b""),
])  # fmt: skip
def test_what_is_not_whole_or_not_what_it_says_leaves_no_image(
    peers: dict[str, Peer], exported: Members, tmp_path: Path, change: Callable[[Members], Members]
) -> None:
    with pytest.raises(EngineError):
        importing.import_file(peers["asker"].agent.config, write(tmp_path / "kept.tar", change(exported)))
    assert peers["asker"].agent.images.inventory() == []


def test_members_that_are_no_plain_files_are_refused(peers: dict[str, Peer], exported: Members, tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
        path = write(tmp_path / "kept.tar", without("pod-0/manifest")(exported))
        with tarfile.open(path, "a") as tar:
            about = tarfile.TarInfo("job1-g1/pod-0/manifest")
            about.type, about.linkname = kind, "/etc/passwd"
            tar.addfile(about)
        with pytest.raises(EngineError, match="not an exported generation"):
            importing.import_file(peers["asker"].agent.config, path)


def test_a_file_that_is_none_is_refused(peers: dict[str, Peer], tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(hashlib.sha256(b"").digest() * 1000)
    for name in ("text", "missing"):
        with pytest.raises(EngineError, match="cannot be read as an export"):
            importing.import_file(peers["asker"].agent.config, tmp_path / name)
