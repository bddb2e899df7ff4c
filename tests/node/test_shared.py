"""A directory that nodes share as a place for images: written by several at once, believed by digests, never taken for empty."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from native.engine import EngineError
from nodes.agent import closures, prefetching, shared, sharing
from nodes.agent.__main__ import main as agent_main
from nodes.agent.config import ConfigError, load_config
from nodes.agent.shared import Shared, make_ready
from tests.node.harness import wait_for
from tests.node.test_fetch import Peer, flip, image, is_whole, peers  # noqa: F401

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="making a pod needs root"), pytest.mark.timeout(240)]
ANNE = "a" * 32
Peers = dict[str, Peer]


@pytest.fixture
def place(tmp_path: Path, peers: Peers) -> Path:  # noqa: F811
    """The directory; all three have it mounted, as it were."""
    directory = tmp_path / "images"
    directory.mkdir()
    make_ready(directory)
    for peer in peers.values():
        use(peer, directory)
    return directory


def use(peer: Peer, directory: Path) -> None:
    peer.agent.shared = Shared(str(directory))
    peer.agent.config = replace(peer.agent.config, shared_store=str(directory), shared_min_age_s=0)


def get(peer: Peer, digest: str, owner: str = ANNE) -> None:
    prefetching.make_sure(peer.agent, digest, [], owner=owner)


def test_what_all_nodes_lost_comes_from_the_shared_directory(place: Path, peers: Peers, image: tuple[Path, str]) -> None:  # noqa: F811
    first, second, asker, digest = peers["first"], peers["second"], peers["asker"], image[1]
    failures: list[Exception] = []

    def write(peer: Peer) -> None:
        try:
            sharing.share(peer.agent, digest)
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(peer,)) for peer in (first, second)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert failures == []
    for peer in (first, second):
        peer.agent.images.remove([digest])
        peer.server.stop()
    prefetching.make_sure(asker.agent, digest, [first.source_for(asker)], owner=ANNE)
    assert (asker.agent.images.place(digest).owner, is_whole(asker, digest)) == (ANNE, True)
    sharing.share(asker.agent, digest)
    assert [entry.owner for entry in first.agent.shared.stores.every() if entry.has(digest)] == [""], "it is there already"


def test_a_killed_writer_leaves_nothing_that_counts(place: Path, peers: Peers, image: tuple[Path, str]) -> None:  # noqa: F811
    first, asker, digest = peers["first"], peers["asker"], image[1]
    held = first.agent.images.place(digest)
    there = first.agent.shared.make_place("")
    needed = closures.lines_of([name for name, _ in closures.chunk_list(first.agent, held.path(digest))])
    with first.agent.engine.reading("store-export", "--store", held.store, stdin=needed) as stream:
        data = stream.read()
    with first.agent.engine.start("store-import", "--store", there.store) as act:
        act._process.stdin.write(data[: len(data) * 2 // 3])  # type: ignore[union-attr]
        wait_for("a part", lambda: list(there.store.glob("packs/*.part")))
        act.kill()
    assert asker.agent.shared.holding(digest) is None
    with pytest.raises(EngineError) as caught:
        get(asker, digest)
    assert caught.value.code.name == "NO_INPUT"
    sharing.share(first.agent, digest)
    get(asker, digest)
    assert is_whole(asker, digest)
    sharing.unshare_images(first.agent, {"images": [digest], "place": shared.read_mark(place)})
    wait_for("the sweep", lambda: not list(there.store.glob("packs/*")))
    assert reported(first) == [("unshare", [digest], [])]


def test_whoever_comes_first_sweeps(place: Path, peers: Peers) -> None:  # noqa: F811
    first, second = peers["first"].agent, peers["second"].agent
    for agent in (first, second):
        agent.config = replace(agent.config, shared_min_age_s=60)
    assert sharing.is_sweep_due(first)
    sharing.sweep(first)
    assert not sharing.is_sweep_due(second)
    os.utime(place / sharing.SWEPT, (1, 1))
    assert sharing.is_sweep_due(second)
    (place / shared.MARK).unlink()
    sharing.sweep(first)
    assert (place / sharing.SWEPT).stat().st_mtime == 1, "nothing is done where nothing is known"
    with pytest.raises(EngineError):
        sharing.is_sweep_due(second)


def reported(peer: Peer) -> list[tuple[str, list[str], list[str]]]:
    bodies = [sent["body"] for sent in peer.sent if sent["kind"] == "shared"]
    return [(body["act"], body["images"], [each["code"] for each in body["failed"]]) for body in bodies]


def test_what_is_not_mounted_is_not_empty(place: Path, peers: Peers, image: tuple[Path, str]) -> None:  # noqa: F811
    first, digest, identity = peers["first"], image[1], shared.read_mark(place)
    sharing.share(first.agent, digest)
    first.agent.shared.look()
    seen = first.agent.shared.report()
    assert seen
    assert (seen["ok"], seen["images"], seen["id"]) == (True, [digest], identity)
    away = place.rename(place.with_name("away"))
    place.mkdir()
    first.agent.shared.look()
    seen = first.agent.shared.report()
    assert seen
    assert (seen["ok"], "images" in seen, "is not mounted" in seen["words"]) == (False, False, True)
    for act in (sharing.share_images, sharing.unshare_images):
        act(first.agent, {"images": [digest], "place": identity})
    wait_for("both reports", lambda: len(reported(first)) == 2)
    assert sorted(reported(first)) == [("share", [], ["NO_INPUT"]), ("unshare", [], ["NO_INPUT"])]
    assert list(place.iterdir()) == [], "nothing is written where it is not"
    make_ready(place)
    sharing.unshare_images(first.agent, {"images": [digest], "place": identity})
    wait_for("the report", lambda: ("unshare", [], ["CONFLICT"]) in reported(first))
    assert (away / "images" / digest / "manifest").exists()


def stale(directory: Path) -> str:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_a_file_server_that_hangs_keeps_nobody(place: Path, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    first, hung = peers["first"], threading.Event()
    monkeypatch.setattr(shared, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(shared, "read_mark", lambda directory: hung.wait(60))
    first.agent.shared.look()
    seen = first.agent.shared.report()
    assert seen
    assert (seen["ok"], seen["words"]) == (False, f"the shared directory {place} does not answer")
    before, threads = time.monotonic(), threading.active_count()
    for _ in range(50):
        first.agent.shared.look()
        assert first.agent.shared.holding("0" * 64) is None
    assert time.monotonic() - before < 1, "while it hangs nobody waits for it again"
    assert threading.active_count() <= threads
    hung.set()
    monkeypatch.setattr(shared, "read_mark", stale)
    wait_for("its words", lambda: first.agent.shared.look() or "Stale file handle" in first.agent.shared.report()["words"], 5)  # type: ignore[index, func-returns-value]
    monkeypatch.undo()
    wait_for("an answer", lambda: first.agent.shared.look() or first.agent.shared.report()["ok"], 5)  # type: ignore[index, func-returns-value]


def test_damage_there_is_found_and_made_good(place: Path, peers: Peers, image: tuple[Path, str]) -> None:  # noqa: F811
    first, asker, digest = peers["first"], peers["asker"], image[1]
    sharing.share(first.agent, digest)
    flip(max(place.glob("store/packs/*.pack"), key=lambda path: path.stat().st_size), 3)
    with pytest.raises(EngineError):
        get(asker, digest)
    assert not asker.agent.images.has(digest)
    assert first.agent.shared.holding(digest) is None, "it does not count any more"
    sharing.share(first.agent, digest)
    get(asker, digest)
    assert is_whole(asker, digest)


def test_a_link_there_leads_nowhere(place: Path, peers: Peers, image: tuple[Path, str]) -> None:  # noqa: F811
    """Who can write there could lead a sweep, or a removal, to the node's own store."""
    first, digest = peers["first"].agent, image[1]
    own = first.images.of("")
    (place / "images").symlink_to(own.images)
    (place / "store").symlink_to(own.store)
    assert first.shared.holding(digest) is None
    assert not first.shared.take_out(digest)
    sharing.sweep(first)
    with pytest.raises(EngineError, match="a link lies where a store should be"):
        sharing.share(first, digest)
    assert is_whole(peers["first"], digest)


@pytest.mark.parametrize("what", ["forged", "pipe", "link"])
def test_a_hostile_directory_is_not_believed(place: Path, peers: Peers, image: tuple[Path, str], what: str) -> None:  # noqa: F811
    first, asker, digest = peers["first"], peers["asker"], image[1]
    sharing.share(first.agent, digest)
    manifest = place / "images" / digest / "manifest"
    if what == "forged":  # manifest and trailer agree with each other, and not with the name
        body = bytearray(manifest.read_bytes()[:-32])
        body[body.index(b"python3")] ^= 0x20
        manifest.write_bytes(bytes(body) + hashlib.sha256(bytes(body)).digest())
    elif what == "pipe":
        manifest.unlink()
        os.mkfifo(manifest)
    else:
        manifest.rename(place / "elsewhere")
        manifest.symlink_to(place / "elsewhere")
    begun = time.monotonic()
    with pytest.raises(EngineError):
        get(asker, digest)
    assert time.monotonic() - begun < 20
    assert not asker.agent.images.has(digest)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_directory_is_told_and_the_next_try_goes_on(small: Path, peers: Peers, image: tuple[Path, str]) -> None:  # noqa: F811
    first, asker, digest = peers["first"], peers["asker"], image[1]
    make_ready(small)
    for peer in (first, asker):
        use(peer, small)
    with pytest.raises(EngineError) as caught:
        sharing.share(first.agent, digest)
    assert caught.value.code.name == "NO_SPACE"
    assert first.agent.shared.holding(digest) is None
    subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    sharing.share(first.agent, digest)
    get(asker, digest)
    assert is_whole(asker, digest)


def test_the_mark_is_made_once(tmp_path: Path) -> None:
    identity = make_ready(tmp_path)
    assert make_ready(tmp_path) == identity
    (tmp_path / shared.MARK).write_text('{"id": "../x", "version": 1}')
    with pytest.raises(EngineError, match="damaged"):
        make_ready(tmp_path)
    (tmp_path / shared.MARK).write_text('{"id": "abc", "version": 9}')
    with pytest.raises(EngineError, match="another version"):
        shared.read_mark(tmp_path)


def test_the_directory_is_named_by_the_administrator(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    state = peers["first"].agent.config.state
    assert Shared(load_config(state).shared_store).report() is None
    for _ in range(2):
        assert agent_main(["share", str(state.parent), "--state", str(state)]) == 0
    assert (load_config(state).shared_store, bool(shared.read_mark(state.parent))) == (str(state.parent), True)
    assert agent_main(["share", str(state / "nowhere"), "--state", str(state)]) == 1
    monkeypatch.setenv("CLUSTEROS_SHARED_STORE", "/mnt/images")
    assert load_config(state).shared_store == "/mnt/images"
    monkeypatch.setenv("CLUSTEROS_SHARED_STORE", "images")
    with pytest.raises(ConfigError, match="not a full path"):
        load_config(state)
