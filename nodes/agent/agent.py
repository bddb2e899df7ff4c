"""What the parts of the node service share: one object, made once, handed to every verb."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from native.engine import Engine
from nodes.agent.certificates import Certificates
from nodes.agent.config import NodeConfig
from nodes.agent.epochs import Epochs
from nodes.agent.front import FrontEnd
from nodes.agent.images import Images
from nodes.agent.logs import LogShipper
from nodes.agent.network import JobNetworks
from nodes.agent.outbox import Outbox
from nodes.agent.pulling import Meter
from nodes.agent.records import Records
from nodes.agent.runner import Runner
from nodes.agent.shared import Shared


@dataclass
class Agent:
    config: NodeConfig
    engine: Engine
    outbox: Outbox
    epochs: Epochs
    records: Records
    networks: JobNetworks
    images: Images
    certificates: Certificates
    front: FrontEnd
    logs: LogShipper
    shared: Shared
    runner: Runner = field(default_factory=Runner)
    meter: Meter = field(default_factory=lambda: Meter(0))

    def report(self, kind: str, body: dict[str, Any]) -> str:
        return self.outbox.report(kind, body)
