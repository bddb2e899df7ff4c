"""Images into the shared directory, back from it, and out of it. What is there is believed only by its digests.

A node writes packs of names of its own, pins what it relies on and names the image last: several at once, or one that is killed,
leave nothing that counts. Any node may sweep, several at once too (native/store/shared.c); it does so when the control side had
images taken out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

from native.engine import EngineError
from nodes.agent import pods
from nodes.agent.agent import Agent
from nodes.agent.closures import check_manifest, chunk_list, keep, lines_of, store_missing
from nodes.agent.pulling import NO_BOUND, Meter
from nodes.agent.spec import bad, take_digest
from nodes.agent.stores import MANIFEST, OwnerStore

log = logging.getLogger(__name__)
BLOCK_BYTES = 1 << 20
COPY_TIMEOUT_S, VERIFY_TIMEOUT_S, NAME_TIMEOUT_S, SWEEP_TIMEOUT_S, TRIES = 900.0, 3600.0, 600.0, 1800.0, 3
AT_ONCE = 1024
"""Chunks of one pack there, at most 256 MiB: what a file server must take within COPY_TIMEOUT_S."""
SWEEP_LOOK_S = 900.0
SWEPT, SWEEP = "swept", "sweep of what is shared"
Body = dict[str, Any]


# ---- acts


def share_images(agent: Agent, body: Body) -> None:
    """In the background: write images there; what is there now, and what is not and why, comes back as a report."""
    digests = [take_digest(digest) for digest in body.get("images") or []]
    _start(agent, "share", body, digests, lambda digest: share(agent, digest))


def unshare_images(agent: Agent, body: Body) -> None:
    """In the background: take images out, then sweep."""
    digests = [take_digest(digest) for digest in body.get("images") or []]
    _start(agent, "unshare", body, digests, lambda digest: agent.shared.take_out(digest))


def _start(agent: Agent, verb: str, body: Body, digests: list[str], one: Callable[[str], Any]) -> None:
    if not digests:
        raise bad("images names none")

    def work() -> None:
        done, failed = [], []
        for digest in digests:
            try:
                refuse_other_place(agent, str(body.get("place") or ""))
                one(digest)
                done.append(digest)
            except Exception as error:
                why = pods.as_outcome(error, f"{verb} image {digest}")
                log.warning("image %s, %s: %s", digest, verb, why)
                failed.append({"digest": digest, "code": why.code.name, "message": why.message})
        agent.report("shared", {"place": body.get("place"), "act": verb, "images": done, "failed": failed})
        if verb == "unshare" and done:
            agent.runner.start(SWEEP, partial(sweep, agent))

    agent.runner.start(f"{verb}:" + ",".join(sorted(digests)), work)


def refuse_other_place(agent: Agent, wanted: str) -> None:
    """What was meant for one place must not happen in another that is mounted in its stead."""
    seen = agent.shared.refuse_unseen()
    if seen != wanted:
        raise EngineError("CONFLICT", f"{agent.shared.directory} is another place than the one that was meant")


# ---- there


def share(agent: Agent, digest: str) -> None:
    """The image of this node is whole there too. EngineError says why not; what was written is used by the next try."""
    held = agent.images.holding(digest)
    if held is None:
        raise EngineError("NO_INPUT", f"image {digest} is not here")
    if agent.shared.holding(digest):
        return
    there = agent.shared.make_place(held.owner)
    needed = [name for name, _ in chunk_list(agent, held.path(digest))]
    for left in reversed(range(TRIES)):
        missing = store_missing(agent, there.store, needed)
        for first in range(0, len(missing), AT_ONCE):
            copy(agent, held.store, there.store, missing[first : first + AT_ONCE], agent.meter)
        try:
            name(agent, there, digest, (held.path(digest) / MANIFEST).read_bytes())
            return
        except EngineError as error:  # a sweep came between
            if not left or error.code.name not in ("BUSY", "BAD_IMAGE"):
                raise


def name(agent: Agent, there: OwnerStore, digest: str, manifest: bytes) -> None:
    arguments = ("--dir", there.path(digest), "--store", there.store, "--digest", digest)
    agent.engine.feed("image-import", *arguments, pieces=[manifest], timeout_s=NAME_TIMEOUT_S)


def copy(agent: Agent, source: Path, target: Path, digests: list[str], meter: Meter) -> None:
    """Chunks from one store into another, each checked on both sides."""
    if not digests:
        return
    with agent.engine.reading("store-export", "--store", source, stdin=lines_of(digests), timeout_s=COPY_TIMEOUT_S) as stream:
        cut: EngineError | None = None
        try:
            agent.engine.feed("store-import", "--store", target, pieces=meter.through(_blocks(stream)), timeout_s=COPY_TIMEOUT_S)
        except EngineError as error:
            if stream.read(1):
                raise
            cut = error  # because the sender gave up: its reason is raised at the end
    if cut:
        raise cut


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block


class Sweeper(threading.Thread):
    """Sweeps what is shared now and then: what was too young when its image was taken out. Whichever node comes first does it."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(name="sweeper of the shared directory", daemon=True)
        self._agent = agent
        self._stop_wanted = threading.Event()

    def stop(self) -> None:
        self._stop_wanted.set()

    def run(self) -> None:
        while self._agent.config.shared_store and not self._stop_wanted.wait(SWEEP_LOOK_S):
            try:
                if is_sweep_due(self._agent):
                    self._agent.runner.start(SWEEP, partial(sweep, self._agent))
            except EngineError as error:
                log.info("the shared directory is not swept: %s", error)


def is_sweep_due(agent: Agent) -> bool:
    """Nobody swept for half of the age at which something may go. EngineError: nobody can say."""
    agent.shared.refuse_unseen()
    return agent.shared.age_s(SWEPT) > agent.config.shared_min_age_s / 2


def sweep(agent: Agent) -> None:
    """What no image there needs any more goes, if it is old enough that nobody is just about to name it."""
    try:
        agent.shared.refuse_unseen()
        agent.shared.touch(SWEPT)
    except EngineError as error:
        log.info("the shared directory is not swept: %s", error)
        return
    age = str(int(agent.config.shared_min_age_s))
    for place in agent.shared.stores.every():
        arguments = ("--store", place.store, "--images", place.images, "--shared", "--min-age", age)
        try:
            agent.engine.call("gc", *arguments, timeout_s=SWEEP_TIMEOUT_S)
        except EngineError as error:
            if error.code.name != "NO_INPUT":
                log.warning("sweep of the shared directory: %s", error)


# ---- back


def fetch(agent: Agent, digest: str, owner: str) -> bool:
    """Hold the image, from the shared directory; False: it is not there. EngineError: what is there is not whole, and is given up there."""
    there = agent.shared.holding(digest)
    if there is None:
        return False
    try:
        _fetch_from(agent, there, digest, owner)
    except EngineError as error:
        if error.code.name == "BAD_IMAGE":
            give_up(agent, there, digest)
        raise
    return True


def _fetch_from(agent: Agent, there: OwnerStore, digest: str, owner: str) -> None:
    store = agent.images.of(owner).store
    manifest = check_manifest(agent.shared.manifest(there, digest), digest)

    def get(needed: list[str]) -> None:
        copy(agent, there.store, store, needed, NO_BOUND)

    keep(agent, digest, owner, manifest, {"the shared directory": get})


def give_up(agent: Agent, there: OwnerStore, digest: str) -> None:
    """It is damaged: what is right of it stays, and is made whole when a node that holds it shares it again."""
    with ExitStack() as stack:
        stack.callback(agent.shared.take_out, digest)
        try:
            arguments = ("--store", there.store, "--forget-damaged")
            agent.engine.call("verify", there.path(digest), *arguments, timeout_s=VERIFY_TIMEOUT_S)
        except EngineError as error:
            log.warning("image %s in the shared directory: %s", digest, error)
