"""The scrubber: reads the store again, slowly, one pack after another, and finds damage before a restore does.

Damaged chunks are forgotten by the engine; an image that lacks some is then not held any more, says so to the control side,
and what is right of it is used when a replica is asked for again. scrub.json keeps how far a round came, so that a service that
is killed goes on there.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from native.engine import EngineError
from nodes.agent import closures
from nodes.agent.agent import Agent
from nodes.agent.durable import read_json, write_json

log = logging.getLogger(__name__)
TICK_S, PAUSE_S = 5.0, 0.1
SLACK_S = 120.0


class Scrubber(threading.Thread):
    def __init__(self, agent: Agent) -> None:
        super().__init__(name="scrubber", daemon=True)
        self._agent = agent
        self._stop_wanted = threading.Event()

    def stop(self) -> None:
        self._stop_wanted.set()

    def run(self) -> None:
        wait_s = TICK_S
        while not self._stop_wanted.wait(wait_s):
            try:
                wait_s = PAUSE_S if turn(self._agent) else TICK_S
            except Exception:
                wait_s = TICK_S
                log.exception("the store cannot be read again just now")


def note_path(agent: Agent) -> Path:
    return agent.config.state / "scrub.json"


def turn(agent: Agent) -> bool:
    """Read a pack if it is time; a round begins some time after the last one, or after the node's first start."""
    note = read_json(note_path(agent))
    if agent.config.scrub_bytes_per_s <= 0:
        return False
    if note is None:
        write_json(note_path(agent), {"ended_at": time.time()})
        return False
    if not note.get("after") and time.time() - float(note["ended_at"]) < agent.config.scrub_every_s:
        return False
    step(agent, note)
    return True


def step(agent: Agent, note: dict[str, Any]) -> None:
    """The next pack of this round, or its end."""
    pack = next_pack(agent, str(note.get("after") or ""))
    if pack is None:
        write_json(note_path(agent), {"ended_at": time.time()})
        return
    scrub(agent, pack)
    write_json(note_path(agent), {"after": pack, "ended_at": note["ended_at"]})


def next_pack(agent: Agent, after: str) -> str | None:
    """By its path below the state directory; names of packs sort by the time when they were begun."""
    paths = (path.relative_to(agent.config.state) for each in agent.images.every() for path in each.store.glob("packs/*.pack"))
    return min((str(path) for path in paths if str(path) > after), default=None)


def scrub(agent: Agent, pack: str) -> None:
    path, pace = agent.config.state / pack, agent.config.scrub_bytes_per_s
    store = path.parent.parent
    try:
        timeout_s = path.stat().st_size / pace * 2 + SLACK_S
        found = agent.engine.call("store-scrub", "--store", store, "--pack", path.name, "--bytes-per-s", str(pace), timeout_s=timeout_s)
    except (EngineError, FileNotFoundError) as error:
        log.info("pack %s: %s", pack, error)  # a sweep took it away
        return
    if found["damaged"] or found["unreadable"]:
        log.warning("pack %s: %s of %s chunks are damaged", pack, "all" if found["unreadable"] else found["damaged"], found["chunks"])
        give_up_images(agent)


def give_up_images(agent: Agent) -> list[str]:
    """Images that lack chunks are not held any more; their digests."""
    gone = []
    for entry in agent.images.inventory():
        digest = entry["digest"]
        place = agent.images.place(digest)
        needed = [name for name, _ in closures.chunk_list(agent, place.path(digest))]
        if closures.store_missing(agent, place.store, needed):
            agent.images.set_aside(digest)
            gone.append(digest)
    if gone:
        words = "its chunks were found damaged when the store was read again"
        agent.report("images", {"digests": [], "failed": [{"digest": d, "code": "BAD_IMAGE", "message": words} for d in gone]})
    return gone
