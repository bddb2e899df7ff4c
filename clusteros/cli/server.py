"""Commands for whoever runs the front end: thin, each is a management command of the control side."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import typer

app = typer.Typer(help="Run and repair the front end (on the front end itself).", no_args_is_help=True)


def _manage(*arguments: str) -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "clusteros.settings"}
    done = subprocess.run([sys.executable, "-m", "django", *arguments], env=environment, check=False)
    raise typer.Exit(done.returncode)


def _passed_on(ctx: typer.Context) -> Sequence[str]:
    return ctx.args


_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=_PASS_ON, add_help_option=False)
def rebuild(ctx: typer.Context) -> None:
    """Make the record of all generations anew from the certificates that the nodes keep."""
    _manage("rebuild_record", *_passed_on(ctx))


@app.command("import", context_settings=_PASS_ON, add_help_option=False)
def import_(ctx: typer.Context) -> None:
    """Make a held job of an exported generation, once `clusteros node import FILE` has put its images on a node."""
    _manage("import_generation", *_passed_on(ctx))


@app.command(context_settings=_PASS_ON, add_help_option=False)
def bootstrap(ctx: typer.Context) -> None:
    """Make the cluster's key, the first users and their tokens; does no harm when done again."""
    _manage("bootstrap", *_passed_on(ctx))


@app.command()
def migrate() -> None:
    """Bring the database's tables up to this version."""
    _manage("migrate", "--no-input")


@app.command()
def scheduler() -> None:
    """Run the scheduler in the foreground."""
    _manage("scheduler")
