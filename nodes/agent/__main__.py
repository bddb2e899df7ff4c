"""`python -m nodes.agent join URL --token …`, `share DIRECTORY`, `import FILE`, `serve` and `show`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from native.engine import EngineError
from nodes.agent import config, importing, join, shared

WORKER_SLOTS = 32


def serve(node: config.NodeConfig) -> NoReturn:
    """Become the Celery worker of this node's queue."""
    worker = [sys.executable, "-m", "celery", "-A", "clusteros.node_app", "worker", "-Q", f"node.{node.name}", "-n", f"node@{node.name}"]
    worker += ["--pool", "threads", "--concurrency", str(WORKER_SLOTS), "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    os.environ[config.STATE_VARIABLE] = str(node.state)
    os.execv(worker[0], worker)


def share(node: config.NodeConfig, directory: str) -> None:
    """Name a directory that nodes share as a place for images, and mark it, once."""
    path = Path(directory).resolve()
    identity = shared.make_ready(path)
    replace(node, shared_store=str(path)).save()
    print(f"{path} is the place {identity[:12]} for images; name it on every node that has it mounted, then start its service again")


def bring_in(node: config.NodeConfig, file: str) -> None:
    """Put the images of an exported generation into this node's store."""
    digests = importing.import_file(node, Path(file))
    print(f"{file}: {len(digests)} images are here; a job is made of them on the front end:  clusteros server import {file}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nodes.agent", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    join.add_arguments(verbs.add_parser("join", help="make this machine a node of a cluster"))
    sharing = verbs.add_parser("share", help="name a directory that several nodes have mounted as a place for images")
    sharing.add_argument("directory", help="such as /mnt/images; the same one on every node")
    sharing.add_argument("--state")
    bringing = verbs.add_parser("import", help="put the images of an exported generation into this node's store")
    bringing.add_argument("file", help="made by `clusteros export`")
    bringing.add_argument("--state")
    verbs.add_parser("show", help="what node this is").add_argument("--state")
    verbs.add_parser("serve", help="be the node service: never returns").add_argument("--state")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "serve":
            serve(config.load_config(options.state))
        if options.verb == "share":
            share(config.load_config(options.state), options.directory)
        if options.verb == "import":
            bring_in(config.load_config(options.state), options.file)
            return 0
        node = join.join(options) if options.verb == "join" else config.load_config(options.state)
    except (join.JoinError, config.ConfigError, EngineError, OSError) as error:
        print(f"clusteros node: {error}", file=sys.stderr)
        return 1
    print(f"node {node.name} of {node.server_url}: {node.cores} cores, {node.mem_bytes >> 20} MiB, store at {node.store_url}")
    print(f"state directory {node.state}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
