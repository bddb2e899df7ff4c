"""The answer to a heartbeat: leases go to the keepers, ended pods end, acked reports are forgotten.

A lease is counted on CLOCK_BOOTTIME from the instant at which the heartbeat was sent. A keeper is told at most
every RENEW_S unless its pod stands frozen; an answer to a heartbeat of another boot, or older than one that was
already handled, changes no lease.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from native.engine import EngineError
from nodes.agent import clock, pods, status
from nodes.agent.agent import Agent
from nodes.agent.records import PodRecord
from nodes.agent.spec import bad, take_int

log = logging.getLogger(__name__)
RENEW_NS = 1_500_000_000
LEASE_TIMEOUT_S = 5.0
TTL_MAX_S = 3600.0
LogsKnown = Callable[[list[dict[str, Any]]], None]


class Leases:
    def __init__(self, agent: Agent, logs_known: LogsKnown) -> None:
        self._agent, self._logs_known = agent, logs_known
        self._lock = threading.Lock()
        self._newest_ns = 0
        self._until_ns: dict[str, int] = {}

    def take(self, body: dict[str, Any]) -> None:
        """A `lease` message."""
        self._agent.outbox.ack(str(report) for report in body.get("acked") or [])
        for name in body.get("ended") or []:
            pods.end(self._agent, name)
        self._logs_known([entry for entry in body.get("logs") or [] if isinstance(entry, dict)])
        sent_ns = take_int(body, "heartbeat_boottime_ns", 0, 1 << 63)
        if self._is_newest(sent_ns):
            self._renew(body, sent_ns + _ttl_ns(body))

    def _is_newest(self, sent_ns: int) -> bool:
        with self._lock:
            if sent_ns > clock.boottime_ns() or sent_ns <= self._newest_ns:
                return False
            self._newest_ns = sent_ns
            return True

    def _renew(self, body: dict[str, Any], until_ns: int) -> None:
        if until_ns <= clock.boottime_ns():
            return
        for name in body.get("pods") or []:
            record = pods.find(self._agent, name)
            if record and record.phase == "running" and self._is_due(record, until_ns):
                self._agent.runner.start(f"lease:{record.key}", partial(self._tell_keeper, record, until_ns))

    def _is_due(self, record: PodRecord, until_ns: int) -> bool:
        return record.live.get("state") == "frozen" or until_ns - self._until_ns.get(record.key, 0) >= RENEW_NS

    def _tell_keeper(self, record: PodRecord, until_ns: int) -> None:
        arguments = ("--pod", record.pod_dir, "--epoch", str(record.spec.epoch), "--until-boottime-ns", str(until_ns))
        try:
            self._agent.engine.call("lease", *arguments, timeout_s=LEASE_TIMEOUT_S)
            self._until_ns[record.key] = until_ns
            if record.live.get("state") == "frozen":
                status.ask_engine(self._agent, record)
        except EngineError as error:
            if error.code.name != "CONFLICT":  # it has just ended
                log.warning("lease of pod %s: %s", record.key, error)
            pods.refresh(self._agent, record)


def _ttl_ns(body: dict[str, Any]) -> int:
    ttl_s = body.get("ttl_s")
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 0 < ttl_s <= TTL_MAX_S:
        raise bad("ttl_s is not a length of a lease")
    return int(ttl_s * 1e9)
