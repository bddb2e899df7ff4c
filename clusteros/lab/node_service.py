"""The node service of a lab's node: joins the cluster when it is invited anew, then becomes the Celery worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def _is_joined(state: Path) -> bool:
    """With the invitation that is there now; a cluster that lost its database invites with a new token."""
    known = state / "joined.json"
    return (state / "node.json").exists() and known.exists() and known.read_text() == (state / "join.json").read_text()


def _join(state: Path) -> None:
    text = (state / "join.json").read_text()
    invitation = json.loads(text)
    command = [sys.executable, "-m", "nodes.agent", "join", invitation["url"], "--token", invitation["token"], "--state", str(state)]
    for option in ("name", "address", "store-port", "cores", "mem-bytes"):
        command += [f"--{option}", os.environ["CLUSTEROS_NODE_" + option.replace("-", "_").upper()]]
    subprocess.run(command, check=True)
    known = state / "joined.json"
    known.touch(mode=0o600)
    known.write_text(text)


def main() -> None:
    """Never returns: the process becomes the worker."""
    state = Path(os.environ["CLUSTEROS_NODE_STATE"])
    if not _is_joined(state):
        _join(state)
    name = os.environ["CLUSTEROS_NODE_NAME"]
    command = [sys.executable, "-m", "celery", "-A", "clusteros.node_app", "worker", "-Q", f"node.{name}", "-n", f"node@{name}"]
    command += ["--pool", "threads", "--concurrency", "32", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
