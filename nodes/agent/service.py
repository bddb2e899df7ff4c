"""The node service: makes its parts, starts its threads, and hands messages to them.

One per state directory (a lock file sees to that). Everything that it knows stands in the state directory or in the
keepers' hands, so it may be killed at any instant: the next one goes on.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from typing import Any

from clusteros.envelope import seal
from native.engine import Engine
from nodes.agent import pods, restoring, sharing, snapshots
from nodes.agent.acts import Acts
from nodes.agent.agent import Agent
from nodes.agent.certificates import Certificates
from nodes.agent.config import NodeConfig
from nodes.agent.epochs import Epochs
from nodes.agent.front import FrontEnd
from nodes.agent.heartbeat import Heartbeat
from nodes.agent.images import Images
from nodes.agent.lease import Leases
from nodes.agent.logs import LogShipper
from nodes.agent.network import JobNetworks
from nodes.agent.outbox import Outbox
from nodes.agent.pulling import Meter
from nodes.agent.records import Records
from nodes.agent.scrubbing import Scrubber
from nodes.agent.shared import Shared
from nodes.agent.storeserver import StoreServer
from nodes.agent.watcher import Watcher

log = logging.getLogger(__name__)
Publish = Callable[[dict[str, Any]], None]


class Service:
    """`publish` sends one sealed envelope to the control side; ConnectionError when it cannot be sent now."""

    def __init__(self, config: NodeConfig, publish: Publish, engine: Engine | None = None) -> None:
        self.config, self._publish = config, publish
        self._lock_fd = lock_state(config)
        self.agent = make_agent(config, publish, engine or Engine())
        self.acts = Acts(self.agent, Leases(self.agent, self.agent.logs.known))
        self.heartbeat = Heartbeat(self.agent, lambda body: self._say("heartbeat", body))
        self.watcher = Watcher(self.agent)
        self.scrubber = Scrubber(self.agent)
        self.sweeper = sharing.Sweeper(self.agent)
        self.store_server: StoreServer | None = None

    def start(self) -> None:
        """Adopt what is there, then listen and tell."""
        pods.recover(self.agent)
        restoring.recover(self.agent)
        snapshots.recover(self.agent)
        self._serve_store()
        for thread in (self.heartbeat, self.watcher, self.scrubber, self.sweeper, self.agent.logs, self.agent.shared):
            thread.start()
        log.info("node %s: %d pods, %d reports not acked", self.config.name, len(list(self.agent.records)), len(self.agent.outbox))

    def _serve_store(self) -> None:
        """A port that is taken costs the replicas, not the pods."""
        try:
            self.store_server = StoreServer(self.agent)
            self.store_server.start()
        except OSError as error:
            log.error("the store is not served on %s: %s", self.config.store_url, error)

    def stop(self) -> None:
        """Pods run on; nothing is waited for."""
        for thread in (self.heartbeat, self.watcher, self.scrubber, self.sweeper, self.agent.logs, self.agent.shared):
            thread.stop()
        if self.store_server:
            self.store_server.stop()
        self.agent.runner.stop()
        self.agent.front.close()
        os.close(self._lock_fd)

    def _say(self, kind: str, body: dict[str, Any]) -> None:
        self._publish(seal(self.config.name, self.config.secret, kind, body))


def make_agent(config: NodeConfig, publish: Publish, engine: Engine) -> Agent:
    outbox = Outbox(config.folder("outbox"), lambda kind, body: seal(config.name, config.secret, kind, body), publish)
    records = Records(config.folder("records"), config.folder("pods"), config.folder("graves"))
    return Agent(
        config=config,
        engine=engine,
        outbox=outbox,
        epochs=Epochs(config.folder("epochs")),
        records=records,
        networks=JobNetworks(config.folder("net"), config.underlay),
        images=Images(config.state),
        certificates=Certificates(config.folder("certificates")),
        front=FrontEnd(config),
        logs=LogShipper(records, outbox.send_now),
        shared=Shared(config.shared_store),
        meter=Meter(config.replication_bytes_per_s),
    )


def lock_state(config: NodeConfig) -> int:
    """Wait until no other service has this state directory (the one before may be in its last seconds)."""
    fd = os.open(config.state / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd
