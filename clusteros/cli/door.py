"""What every command shares: the connection, --json, and how a refusal is said.

A refusal goes to standard error as one line with what to type next, and the exit status is that of native/codes.def.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from clusteros.cli import completion
from clusteros.client import Cluster, ClusterError
from clusteros.login import NoLogin
from native.codes import CODES

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print what the server answered, as JSON.")]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's number.", autocompletion=completion.jobs)]

NEXT = {
    "UNAUTHENTICATED": "clusteros login URL",
    "DENIED": "clusteros login URL   (with a token that may do this)",
    "NOT_FOUND": "clusteros ps --all",
    "NO_INPUT": "clusteros ps --all",
    "NO_ROOM": "clusteros nodes",
    "INVALID": "clusteros COMMAND --help",
    "BUSY": "clusteros nodes   (and try again)",
    "CONFLICT": "clusteros show JOB",
    "STALE": "clusteros show JOB",
    "UNSUPPORTED": "clusteros show JOB   (it names what cannot be captured)",
    "USAGE": "clusteros COMMAND --help",
    "NO_SPACE": "clusteros nodes   (and free room on the full one)",
}


MISSING = {"generation": "clusteros generations JOB", "node": "clusteros nodes", "process": "clusteros processes JOB GENERATION"}
"""What shows the things that are there, where one is not."""

UsageError: Any = typer.BadParameter.__base__


class Door(TyperGroup):
    """Turns what the client raises into words and an exit status, for every command below it; what is not well formed ends
    with the status of USAGE."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        try:
            return super().make_context(*args, **more)
        except UsageError as wrong:
            wrong.exit_code = CODES["USAGE"].exit_status
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as wrong:
            wrong.exit_code = CODES["USAGE"].exit_status
            raise
        except ClusterError as refusal:
            say_refusal(refusal, ctx)
            raise typer.Exit(refusal.code.exit_status) from refusal
        except NoLogin as missing:
            err.print(f"[red]clusteros:[/red] {_plain(str(missing))}")
            raise typer.Exit(CODES["DENIED"].exit_status) from missing


def say_refusal(refusal: ClusterError, ctx: typer.Context) -> None:
    err.print(f"[red]clusteros:[/red] {_plain(str(refusal))}  [dim]({refusal.code.name})[/dim]")
    for fault in refusal.problem.get("errors") or []:
        err.print(f"  {_plain(_fault_words(fault))}")
    hint = _next(refusal)
    if hint:
        job = _job_of(ctx)
        err.print(f"[dim]next:[/dim] {_plain(hint.replace('JOB', job) if job else hint)}")


def _next(refusal: ClusterError) -> str | None:
    if refusal.code.name == "NOT_FOUND":
        said = str(refusal)
        return next((hint for noun, hint in MISSING.items() if f"no {noun} " in said), NEXT["NOT_FOUND"])
    return NEXT.get(refusal.code.name)


def _fault_words(fault: object) -> str:
    if isinstance(fault, dict):
        return f"{fault.get('field', '')}: {fault.get('words', '')}"
    return str(fault)


def _job_of(ctx: typer.Context) -> str:
    at: Any = ctx
    while at is not None:
        if "job" in at.params:
            return str(at.params["job"])
        at = at.parent
    return str(_invoked.get("job", ""))


_invoked: dict[str, str] = {}


def about(job: str) -> str:
    """Remember which job a command is about, for the hint of a refusal."""
    _invoked["job"] = job
    return job


def cluster() -> Cluster:
    return Cluster()


def show(answer: Any, as_json: bool, draw: Callable[[Any], None]) -> None:
    """Print the answer as it came, or drawn for people."""
    if as_json:
        json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        draw(answer)


def ask(question: str, yes: bool) -> None:
    """Go on only on a yes; without a terminal the yes must have been given as --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        err.print("[red]clusteros:[/red] this needs an answer, and there is no terminal: add --yes")
        raise typer.Exit(CODES["USAGE"].exit_status)
    if not typer.confirm(question):
        raise typer.Exit(CODES["ABORTED"].exit_status)


def stop_with(code: str, words: str) -> typer.Exit:
    err.print(f"[red]clusteros:[/red] {_plain(words)}")
    return typer.Exit(CODES[code].exit_status)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
