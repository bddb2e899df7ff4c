"""What a node knows of itself: the file node.json of its state directory, written at join.

Owns the names of everything below the state directory. node.json holds the node's secret: mode 0600, the
directory 0700.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from nodes.agent.durable import read_json, write_json

STATE_VARIABLE = "CLUSTEROS_NODE_STATE"
FOLDERS = ("pods", "records", "images", "store", "net", "outbox", "epochs", "snapshots", "certificates", "graves")


SHARED_VARIABLE = "CLUSTEROS_SHARED_STORE"
BY_HAND = ("replication_bytes_per_s", "scrub_bytes_per_s", "scrub_every_s", "lazy_restore_bytes", "shared_store", "shared_min_age_s")
UNIX_SCHEMES = ("unix://", "redis+socket://")  # redis-py's and Celery's word for the same


class ConfigError(Exception):
    """The state directory does not describe a node."""


@dataclass(frozen=True)
class NodeConfig:
    state: Path
    name: str
    secret: str
    server_url: str
    redis_url: str
    address: str
    store_port: int
    cores: int
    mem_bytes: int
    heartbeat_s: float = 1.0
    job_address: str = ""  # the underlay of job networks, when it is not `address`
    replication_bytes_per_s: int = 0  # what replicas in the background may take of the network; 0: no bound
    scrub_bytes_per_s: int = 32 << 20  # how fast the store is read again, to find damage before it is needed; 0: never
    scrub_every_s: float = 86400.0  # from the end of one round to the begin of the next
    lazy_restore_bytes: int = 256 << 20  # jobs whose image has so much run before all of their memory is there; 0: none
    shared_store: str = ""  # a directory that several nodes share, as a place for images (shared.py)
    shared_min_age_s: float = 86400.0  # chunks there that no image names go when they are older

    def folder(self, name: str) -> Path:
        return self.state / name

    @property
    def underlay(self) -> str:
        return self.job_address or self.address

    @property
    def broker_url(self) -> str:
        """Redis in Celery's words."""
        return self._redis(UNIX_SCHEMES[1])

    @property
    def barrier_url(self) -> str:
        """Redis in redis-py's words."""
        return self._redis(UNIX_SCHEMES[0])

    def _redis(self, unix_scheme: str) -> str:
        for scheme in UNIX_SCHEMES:
            if self.redis_url.startswith(scheme):
                return unix_scheme + self.redis_url.removeprefix(scheme)
        return self.redis_url

    @property
    def store_url(self) -> str:
        return f"http://{self.address}:{self.store_port}"

    def save(self) -> None:
        """Write node.json and make the folders; may be repeated."""
        self.make_folders()
        write_json(self.state / "node.json", {k: v for k, v in asdict(self).items() if k != "state"})

    def make_folders(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o700)
        for name in FOLDERS:
            (self.state / name).mkdir(mode=0o700, exist_ok=True)


def named_by_hand() -> dict[str, str]:
    directory = os.environ.get(SHARED_VARIABLE)
    return {"shared_store": directory} if directory else {}


def load_config(state: str | Path | None = None) -> NodeConfig:
    """The node of `state`, or of CLUSTEROS_NODE_STATE. ConfigError in words a person can act on."""
    folder = Path(state or os.environ.get(STATE_VARIABLE) or "/var/lib/clusteros-node").resolve()
    try:
        fields = read_json(folder / "node.json")
    except ValueError:
        raise ConfigError(f"{folder}/node.json is damaged: join again") from None
    if fields is None:
        raise ConfigError(f"{folder} is no node's state directory: run `clusteros node join URL --token … --state {folder}`")
    try:
        config = NodeConfig(state=folder, **fields | named_by_hand())
    except TypeError as error:
        raise ConfigError(f"{folder}/node.json: {error}") from None
    if config.shared_store and not Path(config.shared_store).is_absolute():
        raise ConfigError(f"the shared directory {config.shared_store!r} is not a full path")
    config.make_folders()
    return config
