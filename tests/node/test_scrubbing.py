"""The scrubber: damage is found before a restore does, said, and healed from a replica; a round goes on where it was."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from native.engine import EngineError
from nodes.agent import prefetching, scrubbing
from nodes.agent.durable import read_json, write_json
from tests.node.test_fetch import Peer, fetch, flip, image, is_whole, peers  # noqa: F401

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="making a pod needs root"), pytest.mark.timeout(240)]


def one_round(peer: Peer) -> int:
    """From the begin to the end of a round; how many packs it read."""
    write_json(scrubbing.note_path(peer.agent), {"ended_at": 0})
    turns = 0
    while scrubbing.turn(peer.agent):
        turns += 1
    return turns - 1


def reports(peer: Peer) -> list[dict[str, object]]:
    return [sent["body"] for sent in peer.sent if sent["kind"] == "images"]


def test_a_sound_store_stays_as_it_is(peers: dict[str, Peer], image: tuple[Path, str]) -> None:  # noqa: F811
    first = peers["first"]
    assert one_round(first) == len(list(first.agent.images.of("").store.glob("packs/*.pack"))) > 0
    assert [entry["digest"] for entry in first.agent.images.inventory()] == [image[1]]
    assert reports(first) == []


@pytest.mark.parametrize("where", ["a chunk", "the index"])
def test_damage_is_said_and_healed_from_a_replica(peers: dict[str, Peer], image: tuple[Path, str], where: str) -> None:  # noqa: F811
    asker, digest = peers["asker"], image[1]
    fetch(peers, digest, "first")
    pack = max(asker.agent.images.of("").store.glob("packs/*.pack"), key=lambda p: p.stat().st_size)
    if where == "a chunk":
        flip(pack, 5)
    else:
        data = bytearray(pack.read_bytes())
        data[-100] ^= 1
        pack.write_bytes(data)
    one_round(asker)
    assert asker.agent.images.inventory() == []
    [said] = reports(asker)
    words = "its chunks were found damaged when the store was read again"
    assert said["failed"] == [{"digest": digest, "code": "BAD_IMAGE", "message": words}]
    prefetching.prefetch(asker.agent, {"images": [digest], "sources": [peers["second"].source_for(asker)], "background": True})
    deadline = time.monotonic() + 60
    while len(reports(asker)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert reports(asker)[1]["digests"] == [digest]
    assert is_whole(asker, digest)


def test_a_round_begins_only_when_it_is_time_and_goes_on_after_a_kill(peers: dict[str, Peer]) -> None:  # noqa: F811
    first = peers["first"]
    note = scrubbing.note_path(first.agent)
    assert not scrubbing.turn(first.agent), "a new node has nothing old"
    assert not scrubbing.turn(first.agent), "nor a little later"
    packs = sorted(f"store/packs/{path.name}" for path in first.agent.images.of("").store.glob("packs/*.pack"))
    write_json(note, {"after": packs[0], "ended_at": time.time()})
    assert scrubbing.turn(first.agent)
    assert read_json(note).get("after") == (packs[1] if len(packs) > 1 else None)


def test_a_node_may_be_told_not_to(peers: dict[str, Peer]) -> None:  # noqa: F811
    first = peers["first"]
    write_json(scrubbing.note_path(first.agent), {"ended_at": 0})
    first.agent.config = replace(first.agent.config, scrub_bytes_per_s=0)
    assert not scrubbing.turn(first.agent)


@pytest.mark.parametrize("name", ["../../node.json", "x", "a/b.pack", ".pack"])
def test_only_packs_are_read(peers: dict[str, Peer], name: str) -> None:  # noqa: F811
    first = peers["first"].agent
    with pytest.raises(EngineError) as caught:
        first.engine.call("store-scrub", "--store", first.images.of("").store, "--pack", name, timeout_s=20)
    assert caught.value.code.name in ("USAGE", "NO_INPUT")
