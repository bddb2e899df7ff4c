"""Where a lab keeps its things, and the names and numbers that its processes agree on.

A *lab* is a whole cluster on one machine: its processes live in a process, network and mount namespace of their own, so that ending
the first of them ends all, and nothing is left. Each node lives in further namespaces inside, with its own address and root.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
FRONT_ADDRESS = "10.91.0.254"
FRONT_PORT = 8000
REDIS_PORT = 6379
STORE_PORT = 7800
LISTEN_FD = 900  # the console's socket on the host's loopback, handed down by `up`
NODE_STATE = "/clusteros"  # inside a node
SHARED_PLACE = "/clusteros-images"


@dataclass(frozen=True)
class Lab:
    """Paths of one lab below its directory."""

    directory: Path

    @property
    def front(self) -> Path:
        """State of the front end: postgres/, redis/, logs, settings.json."""
        return self.directory / "front"

    def node(self, name: str) -> Path:
        """A node's own disk: root-upper/, state/."""
        return self.directory / "nodes" / name

    def node_state(self, name: str) -> Path:
        """The folder that the node sees as its state directory."""
        return self.node(name) / "state"

    @property
    def shared(self) -> Path:
        """If it is there, every node has it mounted at SHARED_PLACE and names it as a place for images."""
        return self.directory / "shared"

    @property
    def socket(self) -> Path:
        """Control socket of the supervisor of the front end and of the nodes."""
        return self.directory / "supervisor.sock"

    def node_socket(self, name: str) -> Path:
        """Control socket of the supervisor inside a node."""
        return self.node_state(name) / "supervisor.sock"

    @property
    def login_file(self) -> Path:
        """What `bootstrap` printed: users, tokens (0600)."""
        return self.front / "login.json"

    @property
    def own_login_file(self) -> Path:
        """This lab's login for the command line, whatever others there are: CLUSTEROS_LOGIN may name it."""
        return self.front / "cli.json"

    @property
    def record_lost_mark(self) -> Path:
        """There while a lost database still has to be made anew from the nodes' certificates."""
        return self.front / "record-lost"

    @property
    def cgroup(self) -> str:
        """Name of the lab's cgroup in every hierarchy."""
        return "clusteros-" + hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]

    def settings(self) -> dict[str, Any]:
        """Number of nodes, port, secrets; made by `up` and kept (0600)."""
        return dict(json.loads((self.front / "settings.json").read_text()))

    def node_names(self) -> list[str]:
        """node1 … nodeN."""
        return [f"node{k + 1}" for k in range(int(self.settings()["nodes"]))]


def default_lab() -> Lab:
    """The lab of this checkout, or the one that CLUSTEROS_LAB names."""
    return Lab(Path(os.environ.get("CLUSTEROS_LAB", REPOSITORY / "var" / "lab")).resolve())


def make_settings(lab: Lab, nodes: int, port: int, cores: int, mem_bytes: int) -> dict[str, Any]:
    """Write settings.json; secrets of an earlier start are kept, so that a stopped lab comes back as it was."""
    lab.front.mkdir(parents=True, exist_ok=True)
    path = lab.front / "settings.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    settings = {
        "secret_key": old.get("secret_key") or secrets.token_urlsafe(40),
        "redis_password": old.get("redis_password") or secrets.token_urlsafe(24),
        "nodes": nodes,
        "port": port,
        "cores": cores,
        "mem_bytes": mem_bytes,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(settings, indent=1))
    return settings


def front_environment(lab: Lab) -> dict[str, str]:
    """Environment of every front-end process."""
    from clusteros.lab.embedded import postgres_url

    settings = lab.settings()
    return {
        "CLUSTEROS_STATE": str(lab.front / "state"),
        "CLUSTEROS_DATABASE_URL": postgres_url(lab.front / "postgres"),
        "CLUSTEROS_REDIS_URL": redis_url(settings["redis_password"], "127.0.0.1"),
        "CLUSTEROS_NODE_REDIS_URL": redis_url(settings["redis_password"], FRONT_ADDRESS),
        "CLUSTEROS_SECRET_KEY": settings["secret_key"],
        "CLUSTEROS_LEASE_S": "12",  # nodes, front end and jobs share the cores of one machine
        "CLUSTEROS_LOST_AFTER_S": "8",
        "CLUSTEROS_ALLOWED_HOSTS": f"127.0.0.1,localhost,{FRONT_ADDRESS}",
        "CLUSTEROS_PUBLIC_URL": f"http://127.0.0.1:{settings['port']}",
        "DJANGO_SETTINGS_MODULE": "clusteros.settings",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
    }


def redis_url(password: str, host: str) -> str:
    """URL of the lab's Redis as seen from `host`."""
    return f"redis://:{password}@{host}:{REDIS_PORT}/0"
