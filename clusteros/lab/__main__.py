"""`python -m clusteros.lab up|down|status|destroy NODE`: see `make help`."""

from __future__ import annotations

import argparse
import json
import sys

from clusteros.lab import lifecycle
from clusteros.lab.layout import default_lab


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clusteros.lab", description="A whole cluster on this machine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start the cluster and leave it running")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--port", type=int, default=lifecycle.DEFAULT_PORT)
    down = verbs.add_parser("down", help="stop it; nothing is left running")
    down.add_argument("--wipe", action="store_true", help="delete its data too")
    verbs.add_parser("status", help="where it is and how to log in")
    verbs.add_parser("destroy", help="lose a node for good").add_argument("node")
    return parser


def _say_where() -> None:
    lab = default_lab()
    login = json.loads(lab.login_file.read_text())
    print(f"console:  {lifecycle.url_of(lab)}")
    for who in ("demo", "admin"):
        print(f"login:    {login[who]['username']}  password {login[who]['password']}")


def main() -> int:
    """Run one verb; 0, or 1 with the reason on stderr."""
    arguments, lab = _parser().parse_args(), default_lab()
    try:
        if arguments.verb == "up":
            lifecycle.up(lab, nodes=arguments.nodes, port=arguments.port)
            _say_where()
        elif arguments.verb == "down":
            lifecycle.down(lab, wipe=arguments.wipe)
        elif arguments.verb == "destroy":
            lifecycle.destroy_node(lab, arguments.node)
        elif lifecycle.pid_of(lab) is None:
            print("no lab is running: make up")
            return 1
        else:
            _say_where()
    except lifecycle.LabError as error:
        print(f"clusteros: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
