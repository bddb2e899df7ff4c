"""The door for messages: proves the envelope, then does what its kind says.

One function per kind of docs/protocol.md. What is not proven, not known or not well formed is dropped and counted,
never acted on. Kinds that do something each time they arrive (signal, exec) are done once per envelope id.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from clusteros.envelope import TO_NODE, EnvelopeError, open_sealed
from native.engine import EngineError
from nodes.agent import execs, pods, prefetching, restoring, sharing, snapshots
from nodes.agent.agent import Agent
from nodes.agent.lease import Leases
from nodes.agent.spec import bad, take_digest, take_int, take_uuid
from nodes.agent.sweeping import sweep
from nodes.agent.urgent import give_way

log = logging.getLogger(__name__)
LATE_S = 60.0
REMEMBERED = 10_000
Body = dict[str, Any]


class Acts:
    def __init__(self, agent: Agent, leases: Leases) -> None:
        self._agent, self._leases = agent, leases
        self.dropped: Counter[str] = Counter()
        self._done_ids: deque[str] = deque(maxlen=REMEMBERED)
        self._kinds: dict[str, Callable[[Body], None]] = {
            "start_pod": lambda body: pods.start(agent, body),
            "restore_pod": lambda body: restoring.restore(agent, body),
            "end_pod": lambda body: pods.end(agent, body),
            "freeze_pod": lambda body: self._suspend(body, True),
            "thaw_pod": lambda body: self._suspend(body, False),
            "snapshot_pod": lambda body: snapshots.take(agent, body),
            "prefetch": lambda body: prefetching.prefetch(agent, body),
            "remove_images": self._remove_images,
            "share_images": lambda body: sharing.share_images(agent, body),
            "unshare_images": lambda body: sharing.unshare_images(agent, body),
            "keep_certificate": self._keep_certificate,
            "lease": leases.take,
        }
        self._kinds_done_once: dict[str, Callable[[Body], None]] = {
            "signal_pod": self._signal,
            "exec_pod": lambda body: execs.run(agent, body),
        }

    def act(self, envelope: Any) -> None:
        """One message."""
        try:
            message = open_sealed(envelope, self._agent.config.secret, kinds=TO_NODE)
            if message["node"] != self._agent.config.name:
                raise EnvelopeError(f"it is for {message['node']}, this is {self._agent.config.name}")
        except EnvelopeError as error:
            self.dropped[str(error)] += 1
            log.warning("a message was dropped: %s", error)
            return
        self._do(message)

    def _do(self, message: dict[str, Any]) -> None:
        kind, body = message["kind"], message["body"]
        if kind != "snapshot_pod":
            give_way()
        try:
            if kind in self._kinds_done_once:
                if self._is_first(message):
                    self._kinds_done_once[kind](body)
            else:
                self._kinds[kind](body)
        except EngineError as error:
            log.warning("%s: %s", kind, error)
            self.refuse(kind, body, error)

    def _is_first(self, message: dict[str, Any]) -> bool:
        if message["id"] in self._done_ids or time.time() - message["sent_at"] > LATE_S:
            return False
        self._done_ids.append(message["id"])
        return True

    def refuse(self, kind: str, body: Body, error: EngineError) -> None:
        """Who asked for something that has an outcome hears why there is none. A stale epoch needs no answer."""
        if error.code.name == "STALE":
            return
        name = {key: body.get(key) for key in ("run", "epoch", "pod")}
        words = {"code": error.code.name, "message": error.message}
        if kind == "start_pod":
            self._agent.report("pod", {**name, "state": "failed", "exit_status": None, **words})
        elif kind == "restore_pod":
            self._agent.report("restored", {**name, "phase": "failed", "took_ms": 0, **words})
        elif kind == "snapshot_pod":
            self._agent.report("snapshot", {**name, "generation": body.get("generation"), "ok": False, **words})
        elif kind == "exec_pod":
            self._agent.report("exec", {"id": body.get("id"), "exit_status": error.code.exit_status, "output": error.message})

    def _suspend(self, body: Body, suspended: bool) -> None:
        record = pods.find(self._agent, body)
        if record:
            pods.suspend(self._agent, record, suspended)

    def _signal(self, body: Body) -> None:
        record, number = pods.find(self._agent, body), take_int(body, "signal", 1, 64)
        if record and record.phase == "running":
            pods.send_signal(self._agent, record, number)

    def _remove_images(self, body: Body) -> None:
        needed = {record.request["image"] for record in self._agent.records if (record.pod_dir / "filling").exists()}
        asked = [take_digest(digest) for digest in body.get("digests") or []]
        digests = [digest for digest in asked if digest not in needed]  # the others are asked for again as long as they are here
        self._agent.certificates.forget(digests)
        gone = self._agent.images.remove(digests)
        if gone:
            self._agent.runner.start("sweep", lambda: sweep(self._agent))

    def _keep_certificate(self, body: Body) -> None:
        """Not kept when its images went first: it may come late."""
        generation, digests = take_uuid(body, "generation"), [take_digest(digest) for digest in body.get("digests") or []]
        if not isinstance(body.get("certificate"), dict):
            raise bad("certificate is not an object")
        if any(self._agent.images.has(digest) for digest in digests):
            self._agent.certificates.keep(generation, body)
        self._agent.report("certificate", {"generation": generation})
