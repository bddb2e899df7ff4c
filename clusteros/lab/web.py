"""The web process of a lab: the ASGI application on the console's inherited socket and on the lab's own wire."""

from __future__ import annotations

import socket
import sys

import uvicorn

from clusteros.lab.layout import FRONT_ADDRESS, FRONT_PORT

KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open, as proxies expect it: longer than any client of ours uses one again (answers.KEPT)."""


def main() -> None:
    """Serve until told to end; argv[1] is the number of the inherited listening socket."""
    console = socket.socket(fileno=int(sys.argv[1]))
    wire = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    wire.bind((FRONT_ADDRESS, FRONT_PORT))
    wire.listen(256)
    config = uvicorn.Config(
        "clusteros.asgi:application", log_level="info", timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=5, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[console, wire])


if __name__ == "__main__":
    main()
