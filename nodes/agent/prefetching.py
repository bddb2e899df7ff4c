"""Getting images from other nodes: the manifest, the chunks that lack here, each checked before it is kept.

All sources serve side by side, and what one of them gave stays. An image counts as held only when the engine has found the
whole closure in the store. An image that is held already is verified; damaged chunks are forgotten and fetched again.
Before a way back (`fit`) the engine says also whether this machine could bring the image back: while nothing is ended yet.
A prefetch `background` (a replica for later) keeps to the node's bandwidth; one that a job waits for does not.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from native.engine import EngineError
from nodes.agent import closures, pods, sharing
from nodes.agent.agent import Agent
from nodes.agent.pulling import NO_BOUND, Meter, pull, refusal
from nodes.agent.spec import take_digest, take_owner

log = logging.getLogger(__name__)
BLOCK_BYTES = 1 << 20
MANIFEST_MAX_BYTES = 1 << 30
TIMEOUT = httpx.Timeout(60.0, connect=3.0)
IMPORT_TIMEOUT_S = 600.0
VERIFY_TIMEOUT_S = 600.0
FIT_TIMEOUT_S = 60.0
Body = dict[str, Any]
Source = dict[str, Any]

_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)


def prefetch(agent: Agent, body: Body) -> None:
    """A prefetch: in the background; what is complete now, and what is not and why, comes back as a report."""
    digests, sources = [take_digest(digest) for digest in body.get("images") or []], body.get("sources") or []
    policy, owner = str(body.get("fit") or ""), take_owner(body.get("owner"))
    meter = agent.meter if body.get("background") is True else NO_BOUND

    def work() -> None:
        held, failed, unfit = [], [], []
        for digest in digests:
            try:
                make_sure(agent, digest, sources, meter, owner)
                held.append(digest)
                if policy and (words := why_unfit(agent, digest, policy)):
                    unfit.append({"digest": digest, "code": "UNSUPPORTED", "message": words})
            except Exception as error:
                why = pods.as_outcome(error, f"fetch image {digest}")
                log.warning("image %s: %s", digest, why)
                failed.append({"digest": digest, "code": why.code.name, "message": why.message})
        agent.report("images", {"digests": held, "failed": failed, "fit": policy, "unfit": unfit})

    agent.runner.start(f"prefetch:{policy}:" + ",".join(sorted(digests)), work)


def make_sure(agent: Agent, digest: str, sources: list[Source], meter: Meter = NO_BOUND, owner: str = "") -> None:
    """The image is held and every byte of it is right; else it is fetched."""
    if agent.images.has(digest):
        try:
            verify(agent, digest)
            return
        except EngineError as error:
            if error.code.name not in ("BAD_IMAGE", "NO_INPUT"):
                raise
            log.warning("image %s is damaged here and is fetched again: %s", digest, error)
            agent.images.set_aside(digest)
            if not sources and not agent.shared.holding(digest):
                raise
    fetch(agent, digest, sources, meter, owner)


def verify(agent: Agent, digest: str) -> None:
    """Every byte. EngineError BAD_IMAGE: some chunk is damaged, or the manifest is a sound one of another image."""
    place = agent.images.place(digest)
    found = agent.engine.call("verify", place.path(digest), "--store", place.store, "--forget-damaged", timeout_s=VERIFY_TIMEOUT_S)
    if found["digest"] != digest:
        raise EngineError("BAD_IMAGE", f"in the place of image {digest} lies {found['digest']}")


def mend(agent: Agent, digest: str, sources: list[Source]) -> None:
    """What the store lost of an image from which a pod's memory is just brought; the image stays. EngineError: it is not whole yet."""
    with _locks[digest], agent.images.adding():
        place = agent.images.place(digest)
        with ExitStack() as stack:
            clients = {str(s.get("node")): stack.enter_context(opened(s)) for s in sources}
            missing = closures.store_missing(agent, place.store, [name for name, _ in closures.chunk_list(agent, place.path(digest))])
            serve = {name: partial(get_chunks, agent, client, place.store, digest) for name, client in clients.items()}
            pull(missing, serve, partial(closures.store_missing, agent, place.store))


def why_unfit(agent: Agent, digest: str, policy: str) -> str:
    """Why a restore on this machine would be refused, or nothing. `policy`: the job's files_policy."""
    try:
        agent.engine.call("image-fit", "--image", agent.images.path(digest), "--files", policy, timeout_s=FIT_TIMEOUT_S)
    except EngineError as error:
        if error.code.name != "UNSUPPORTED":
            raise
        return error.message
    return ""


def fetch(agent: Agent, digest: str, sources: list[Source], meter: Meter = NO_BOUND, owner: str = "") -> None:
    """Hold the image, from whichever sources have it. EngineError: they had not all of it, and what each said."""
    with _locks[digest]:
        if agent.images.has(digest):
            return
        with agent.images.adding():
            try:
                fetch_from_any(agent, digest, sources, meter, owner)
            except OSError as error:
                raise pods.as_outcome(error, f"keep image {digest}") from error


def fetch_from_any(agent: Agent, digest: str, sources: list[Source], meter: Meter, owner: str) -> None:
    """From nodes; when they have it not, from the directory that nodes share."""
    why = EngineError("NO_INPUT", f"image {digest} is not here, and no source was named")
    if sources:
        try:
            with ExitStack() as stack:
                fetch_from(agent, digest, {str(s.get("node")): stack.enter_context(opened(s)) for s in sources}, meter, owner)
            return
        except EngineError as error:
            why = error
    if not sharing.fetch(agent, digest, owner):
        raise why


def opened(source: Source) -> httpx.Client:
    base = str(source.get("url")).rstrip("/")
    return httpx.Client(base_url=base, timeout=TIMEOUT, trust_env=False, headers={"X-ClusterOS-Ticket": str(source.get("ticket"))})


def fetch_from(agent: Agent, digest: str, clients: dict[str, httpx.Client], meter: Meter, owner: str) -> None:
    """Manifest, missing chunks, closure."""
    store = agent.images.of(owner).store
    manifest = first_manifest(clients, digest)
    serve = {name: partial(get_chunks, agent, client, store, digest, meter=meter) for name, client in clients.items()}
    closures.keep(agent, digest, owner, manifest, serve)


def first_manifest(clients: dict[str, httpx.Client], digest: str) -> bytes:
    """From the first source that gives the right one."""
    failures: dict[str, EngineError] = {}
    for name, client in clients.items():
        try:
            return get_manifest(client, digest)
        except EngineError as error:
            log.warning("image %s from %s: %s", digest, name, error)
            failures[name] = error
    raise refusal(failures)


def get_manifest(client: httpx.Client, digest: str) -> bytes:
    try:
        with client.stream("GET", f"/images/{digest}/manifest") as response:
            _check(response)
            data = bytearray()
            for block in response.iter_bytes(BLOCK_BYTES):
                data += block
                if len(data) > MANIFEST_MAX_BYTES:
                    raise EngineError("BAD_IMAGE", "the manifest is longer than any may be")
    except httpx.HTTPError as error:
        raise EngineError("IO", f"{client.base_url}: {error}") from error
    return closures.check_manifest(bytes(data), digest)


def get_chunks(agent: Agent, client: httpx.Client, store: Path, image: str, digests: list[str], *, meter: Meter = NO_BOUND) -> None:
    """One batch of the chunks of `image`: the source's stream goes into the engine, which checks every chunk before it keeps it."""
    try:
        with client.stream("POST", "/chunks", json=digests, headers={"X-ClusterOS-Image": image}) as response:
            _check(response)
            pieces = meter.through(response.iter_bytes(BLOCK_BYTES))
            agent.engine.feed("store-import", "--store", store, pieces=pieces, timeout_s=IMPORT_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise EngineError("IO", f"{client.base_url}: {error}") from error


def _check(response: httpx.Response) -> None:
    if response.status_code == 200:
        return
    code = {401: "DENIED", 403: "DENIED", 404: "NO_INPUT"}.get(response.status_code, "IO")
    raise EngineError(code, f"it answered {response.status_code}")
