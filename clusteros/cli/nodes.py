"""Commands about nodes: nodes, drain, undrain, and `node join`, `node token`."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any

import typer

from clusteros.cli import completion, draw
from clusteros.cli.door import JsonFlag, YesFlag, ask, cluster, out, show

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.", autocompletion=completion.nodes)]

app = typer.Typer(help="Join machines to the cluster.", no_args_is_help=True)


def nodes(as_json: JsonFlag = False) -> None:
    """List the machines of the cluster."""
    with cluster() as door:
        found = door.nodes()
    show(found, as_json, draw.draw_nodes)


def drain(
    node: NodeArgument,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Move every job off a node by a generation, and start no more there."""
    with cluster() as door:
        ask(f"Drain {node}? Its jobs go on elsewhere; nothing new starts there.", yes)
        answer = door.drain(node)
    show(answer, as_json, _draw_moved(node))


def undrain(node: NodeArgument, as_json: JsonFlag = False) -> None:
    """Use a drained node again."""
    with cluster() as door:
        answer = door.undrain(node)
    show(answer, as_json, _draw_moved(node))


def _draw_moved(node: str) -> Any:
    return lambda said: out.print(f"node {node}: {(said or {}).get('state', 'done')}")


@app.command()
def token(as_json: JsonFlag = False) -> None:
    """Make a token with which one machine can join."""
    with cluster() as door:
        made = door.node_token()
        url = door.url
    show(made, as_json, lambda said: out.print(f"on the new machine:\n  clusteros node join {url} --token {said['token']}", soft_wrap=True))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def share(ctx: typer.Context) -> None:
    """Name a directory that nodes share as a place for images: clusteros node share /mnt/images."""
    raise typer.Exit(subprocess.run([sys.executable, "-m", "nodes.agent", "share", *ctx.args], check=False).returncode)


@app.command("import", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def import_(ctx: typer.Context) -> None:
    """Put the images of an exported generation into this node's store: clusteros node import FILE."""
    raise typer.Exit(subprocess.run([sys.executable, "-m", "nodes.agent", "import", *ctx.args], check=False).returncode)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def join(ctx: typer.Context) -> None:
    """Make this machine a node: clusteros node join URL --token TOKEN (more: --help)."""
    raise typer.Exit(subprocess.run([sys.executable, "-m", "nodes.agent", "join", *ctx.args], check=False).returncode)
