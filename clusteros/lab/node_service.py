"""The node service of a lab's node: joins the cluster once, then becomes the Celery worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def _join(state: Path) -> None:
    invitation = json.loads((state / "join.json").read_text())
    command = [sys.executable, "-m", "nodes.agent", "join", invitation["url"], "--token", invitation["token"], "--state", str(state)]
    for option in ("name", "address", "store-port", "cores", "mem-bytes"):
        command += [f"--{option}", os.environ["CLUSTEROS_NODE_" + option.replace("-", "_").upper()]]
    subprocess.run(command, check=True)


def main() -> None:
    """Never returns: the process becomes the worker."""
    state = Path(os.environ["CLUSTEROS_NODE_STATE"])
    if not (state / "node.json").exists():
        _join(state)
    name = os.environ["CLUSTEROS_NODE_NAME"]
    command = [sys.executable, "-m", "celery", "-A", "clusteros.node_app", "worker", "-Q", f"node.{name}", "-n", f"node@{name}"]
    command += ["--pool", "threads", "--concurrency", "32", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
