"""The closure of an image: the chunks that its manifest names, which of them a store lacks, the image that is whole with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from native.engine import EngineError
from nodes.agent.agent import Agent
from nodes.agent.pulling import Serve, pull

TIMEOUT_S = 600.0


def check_manifest(data: bytes, digest: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != digest:
        raise EngineError("BAD_IMAGE", f"the manifest that it gave is not the one of {digest}")
    return data


def chunk_list(agent: Agent, image: Any) -> list[tuple[str, int]]:
    """(digest, length) of every chunk that the manifest names."""
    with agent.engine.reading("image-chunks", "--image", image) as lines:
        pairs = [line.split() for line in lines]
    return [(name.decode(), int(size)) for name, size in pairs]


def store_missing(agent: Agent, store: Path, digests: list[str]) -> list[str]:
    with agent.engine.reading("store-missing", "--store", store, stdin=lines_of(digests), timeout_s=TIMEOUT_S) as lines:
        return [line.decode().strip() for line in lines]


def keep(agent: Agent, digest: str, owner: str, manifest: bytes, serve: Mapping[str, Serve]) -> None:
    """The image of a right manifest: what lacks of its chunks comes from `serve`, then the engine looks at the whole closure."""
    making, store = agent.images.fetching(digest, owner), agent.images.of(owner).store
    (making / "manifest").write_bytes(manifest)
    needed = chunk_list(agent, making)
    missing = store_missing(agent, store, [name for name, _ in needed])
    pull(missing, serve, partial(store_missing, agent, store))
    arguments = ("--dir", making, "--store", store, "--digest", digest)
    agent.engine.feed("image-import", *arguments, pieces=[manifest], timeout_s=TIMEOUT_S)
    agent.images.adopt(making, bytes=sum(size for _, size in needed))


def lines_of(digests: list[str]) -> bytes:
    return "".join(f"{digest}\n" for digest in digests).encode()
