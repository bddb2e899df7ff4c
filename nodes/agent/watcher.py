"""Looks at the pods that run: at once when the engine wrote something about them, else every LOOK_S.

Reports a pod when what it reports of its state has changed. From time to time asks the engine whether a pod can
be checkpointed.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from native.engine import EngineError
from nodes.agent import pods, prefetching, status
from nodes.agent.agent import Agent
from nodes.agent.records import PodRecord
from nodes.agent.urgent import give_way

log = logging.getLogger(__name__)
TICK_S = 0.1
LOOK_S = 2.0
CHECK_S = 15.0
CHECK_TIMEOUT_S = 20.0


@dataclass
class Look:
    """When a pod was looked at, and what its files were like then."""

    at: float = -LOOK_S
    stamp: tuple[int, int] = (0, 0)
    checked_at: float = field(default_factory=lambda: time.monotonic() - CHECK_S + 3.0)
    said: str = ""


class Watcher(threading.Thread):
    def __init__(self, agent: Agent) -> None:
        super().__init__(name="watcher", daemon=True)
        self._agent = agent
        self._looks: dict[str, Look] = {}
        self._stop_wanted = threading.Event()

    def stop(self) -> None:
        self._stop_wanted.set()

    def run(self) -> None:
        while not self._stop_wanted.wait(TICK_S):
            give_way()
            for record in self._agent.records:
                try:
                    self.look(record)
                except Exception:
                    log.exception("pod %s cannot be watched just now", record.key)

    def look(self, record: PodRecord) -> None:
        if record.phase != "running" or record.ending:
            return
        look, now = self._looks.setdefault(record.key, Look()), time.monotonic()
        stamp = (_changed_at(record.pod_dir / "state"), _changed_at(record.pod_dir / "exit"))
        if stamp != look.stamp or now - look.at > LOOK_S:
            look.stamp, look.at = stamp, now
            self._look_closely(record, look)
        if now - look.checked_at > CHECK_S:
            look.checked_at = now
            self._agent.runner.start(f"check:{record.key}", lambda: self._check(record))

    def _look_closely(self, record: PodRecord, look: Look) -> None:
        pods.refresh(self._agent, record)
        self.mend_if_lacking(record)
        said = status.reported_state(record)
        if record.phase == "running" and look.said and said != look.said:
            pods.report(self._agent, record)
        look.said = said

    def mend_if_lacking(self, record: PodRecord) -> None:
        if (record.live.get("filling") or {}).get("lacking"):
            self._agent.runner.start(f"mend:{record.key}", lambda: self._mend(record))

    def _mend(self, record: PodRecord) -> None:
        """A job that runs already stands for memory that this node's store has not, or not whole: other nodes have it."""
        log.warning("pod %s waits for memory: %s", record.key, record.live["filling"]["why"])
        try:
            prefetching.mend(self._agent, str(record.request["image"]), record.request.get("sources") or [])
        except Exception as error:
            log.warning("pod %s: %s", record.key, pods.as_outcome(error, "mend its image"))

    def _check(self, record: PodRecord) -> None:
        """Can it be checkpointed? An engine that cannot say leaves the answer open; another answer than before is reported at once."""
        before = (record.live.get("checkpointable"), record.live.get("obstacles"))
        self._ask_check(record)
        if (record.live.get("checkpointable"), record.live.get("obstacles")) != before:
            pods.report(self._agent, record)

    def _ask_check(self, record: PodRecord) -> None:
        try:
            answer = self._agent.engine.call("check", "--pod", record.pod_dir, timeout_s=CHECK_TIMEOUT_S)
        except EngineError as error:
            if error.code.name == "UNSUPPORTED":
                record.live.update(checkpointable=False, obstacles=[{"pid": 0, "fd": -1, "words": error.message}])
            return
        obstacles = answer.get("obstacles") or []
        record.live.update(checkpointable=not obstacles, obstacles=obstacles)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
