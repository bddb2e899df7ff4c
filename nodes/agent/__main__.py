"""`python -m nodes.agent join URL --token …`, `python -m nodes.agent serve` and `python -m nodes.agent show`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from nodes.agent import config, join

WORKER_SLOTS = 32


def serve(node: config.NodeConfig) -> NoReturn:
    """Become the Celery worker of this node's queue."""
    worker = [sys.executable, "-m", "celery", "-A", "clusteros.node_app", "worker", "-Q", f"node.{node.name}", "-n", f"node@{node.name}"]
    worker += ["--pool", "threads", "--concurrency", str(WORKER_SLOTS), "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    os.environ[config.STATE_VARIABLE] = str(node.state)
    os.execv(worker[0], worker)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nodes.agent", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    join.add_arguments(verbs.add_parser("join", help="make this machine a node of a cluster"))
    verbs.add_parser("show", help="what node this is").add_argument("--state")
    verbs.add_parser("serve", help="be the node service: never returns").add_argument("--state")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "serve":
            serve(config.load_config(options.state))
        node = join.join(options) if options.verb == "join" else config.load_config(options.state)
    except (join.JoinError, config.ConfigError, OSError) as error:
        print(f"clusteros node: {error}", file=sys.stderr)
        return 1
    print(f"node {node.name} of {node.server_url}: {node.cores} cores, {node.mem_bytes >> 20} MiB, store at {node.store_url}")
    print(f"state directory {node.state}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
