"""The heartbeat: once a second the whole inventory of this node, whatever else goes on.

A heartbeat that cannot be sent is dropped (the next one says the same); nothing here waits for Redis longer than
its socket's timeout, and no other thread waits for this one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from native.engine import EngineError
from nodes.agent import clock, status
from nodes.agent.agent import Agent
from nodes.agent.traffic import Traffic
from nodes.agent.urgent import give_way

log = logging.getLogger(__name__)
DOCTOR_TIMEOUT_S = 20.0


class Heartbeat(threading.Thread):
    def __init__(self, agent: Agent, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._agent, self._send = agent, send
        self._stop_wanted, self._connected = threading.Event(), True
        self._doctor: dict[str, Any] | None = None
        self._doctor_sent = 0
        self._traffic = Traffic(agent.config.underlay)

    def stop(self) -> None:
        self._stop_wanted.set()

    def run(self) -> None:
        interval_s = self._agent.config.heartbeat_s
        next_at = time.monotonic()
        while not self._stop_wanted.wait(max(0.0, next_at - time.monotonic())):
            next_at = max(next_at + interval_s, time.monotonic())
            give_way()
            try:
                self.beat()
            except Exception:
                log.exception("a heartbeat failed; the next one follows")

    def beat(self) -> None:
        """Send one heartbeat."""
        body = self.inventory()
        try:
            self._send(body)
        except ConnectionError as error:
            if self._connected:
                log.warning("the control side cannot be reached: %s", error)
            self._connected = False
        else:
            self._doctor_sent += "doctor" in body
            if not self._connected:
                log.info("the control side is reached again")
            self._connected = True

    def inventory(self) -> dict[str, Any]:
        """The body of a heartbeat."""
        agent, config = self._agent, self._agent.config
        body: dict[str, Any] = {
            "boottime_ns": clock.boottime_ns(),
            "boot_id": clock.boot_id(),
            "version": package_version(),
            "cores": config.cores,
            "mem_bytes": config.mem_bytes,
            "address": config.underlay,
            "store_url": config.store_url,
            "store_bytes": agent.images.store_bytes(),
            "pods": [status.pod_report(record) for record in agent.records],
            "images": agent.images.inventory(),
            "unacked": agent.outbox.unacked(),
            **clock.figures(config.state),
            **self._traffic.figures(),
        }
        if shared := agent.shared.report():
            body["shared"] = shared
        if self._doctor_sent == 0:
            body["doctor"] = self.doctor()
        return body

    def doctor(self) -> dict[str, Any]:
        """What this kernel allows, asked once per start."""
        if self._doctor is None:
            try:
                self._doctor = self._agent.engine.call("doctor", "--json", timeout_s=DOCTOR_TIMEOUT_S)
            except EngineError as error:
                self._doctor = {"problem": str(error)}
        problem = self._agent.networks.way_out_problem
        return self._doctor | ({"way_out": problem} if problem else {})


def package_version() -> str:
    try:
        return version("clusteros")
    except PackageNotFoundError:
        return "0.1.0"
