"""Equal chunks are met among one owner's jobs alone; images of an older layout are read where they lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import httpx
import pytest

from native.engine import EngineError
from nodes.agent import closures, prefetching
from nodes.agent.spec import take_owner
from nodes.agent.stores import Stores
from tests.node.test_fetch import Peer, image, is_whole, peers  # noqa: F401

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="making a pod needs root"), pytest.mark.timeout(240)]
ANNE, BOB = "a" * 32, "b" * 32


def fetch_for(peer: Peer, source: Peer, digest: str, owner: str) -> None:
    prefetching.make_sure(peer.agent, digest, [source.source_for(peer)], owner=owner)


def chunks(peer: Peer, digest: str) -> list[str]:
    return [name for name, _ in closures.chunk_list(peer.agent, peer.agent.images.path(digest))]


def test_what_one_owner_has_is_not_there_for_another(peers: dict[str, Peer], image: tuple[Path, str]) -> None:  # noqa: F811
    asker, digest = peers["asker"], image[1]
    fetch_for(asker, peers["first"], digest, ANNE)
    assert asker.agent.images.place(digest).owner == ANNE
    assert is_whole(asker, digest)
    needed, stores = chunks(asker, digest), asker.agent.images
    assert closures.store_missing(asker.agent, stores.of(ANNE).store, needed) == []
    assert len(closures.store_missing(asker.agent, stores.of(BOB).store, needed)) == len(needed)
    assert [entry["digest"] for entry in stores.inventory()] == [digest]
    assert stores.store_bytes() > 3 << 20
    assert stores.remove([digest]) == [digest]
    assert stores.inventory() == []


def test_an_image_of_the_older_layout_serves_and_is_served(peers: dict[str, Peer], image: tuple[Path, str]) -> None:  # noqa: F811
    """The fixture's image lies where no owner was told."""
    first, asker, digest = peers["first"], peers["asker"], image[1]
    assert first.agent.images.place(digest).owner == ""
    fetch_for(first, peers["second"], digest, ANNE)
    assert first.agent.images.place(digest).owner == "", "what is here is not fetched again"
    fetch_for(asker, first, digest, ANNE)
    first.agent.images.remove([digest])
    fetch_for(first, asker, digest, ANNE)
    assert (first.agent.images.place(digest).owner, is_whole(first, digest)) == (ANNE, True)


def test_a_removal_frees_what_the_same_owner_does_not_need(peers: dict[str, Peer], image: tuple[Path, str]) -> None:  # noqa: F811
    asker, digest = peers["asker"], image[1]
    fetch_for(asker, peers["first"], digest, ANNE)
    stores = Stores(asker.agent.config.state)
    shutil.copytree(stores.of(ANNE).store, stores.of(BOB).store)
    shutil.copytree(stores.of(ANNE).path(digest), stores.of(BOB).path("e" * 64))
    headers = {"X-ClusterOS-Ticket": asker.source_for(asker)["ticket"]}
    freed = httpx.post(f"{asker.url}/images/frees", headers=headers, json=[[digest]]).json()
    assert freed["frees"][0] == freed["together"] > 3 << 20, "that another owner has the same is not told"


@pytest.mark.parametrize("owner", ["../x", "A", "a/b", ".", "a" * 65, 7])
def test_what_is_no_owner_is_refused(owner: object) -> None:
    with pytest.raises(EngineError, match="owner is not well formed"):
        take_owner(owner)
