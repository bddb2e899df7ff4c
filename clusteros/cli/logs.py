"""`logs` and `events`: what a job printed, and what happened, once or followed."""

from __future__ import annotations

import itertools
import sys
import time
from typing import Annotated, Any

import typer

from clusteros.cli import draw
from clusteros.cli.door import JobArgument, JsonFlag, about, cluster, err, show
from clusteros.client import Cluster
from clusteros.ranks import HOW

POLL_S = 0.3
LATE_S = 2.0
STREAMS = ("stdout", "stderr")


def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    pod: Annotated[int | None, typer.Option("--pod", "-p", min=0, help="Only this pod.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only stdout or stderr.")] = None,
    rank: Annotated[int | None, typer.Option("--rank", "-r", min=0, help=f"Only this rank, where labelled: {HOW}.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print what a job wrote to its output and errors; -f follows it, also through rollbacks."""
    about(job)
    if stream is not None and stream not in STREAMS:
        raise typer.BadParameter("stdout or stderr", param_hint="--stream")
    which = {"pod": pod, "stream": stream, "rank": rank}
    with cluster() as door:
        if as_json and not follow:
            return show(door.log(job, **which), True, lambda _: None)  # type: ignore[arg-type]
        printer = Printer(as_json)
        after, _ = _print_rest(door, job, which, 0, printer)
        if follow:
            _follow(door, job, which, after, printer)
    if rank is not None and not printer.printed:
        err.print(f"no line says that it is of rank {rank}: the launcher labels lines when it is asked, by {HOW}")


class Printer:
    """Writes pieces of the log as they come: output to output, errors to errors, a line where the job was brought back."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.epoch: int | None = None
        self.printed = False

    def __call__(self, piece: Any) -> None:
        self.printed = True
        if self.as_json:
            draw.print_json_line(piece)
            return
        if self.epoch is not None and piece.get("epoch") != self.epoch:
            err.print(f"[yellow]--- the job was brought back: run {piece.get('epoch')} goes on here ---[/yellow]")
        self.epoch = piece.get("epoch", self.epoch)
        target = sys.stderr if piece.get("stream") == "stderr" else sys.stdout
        target.write(piece["text"])
        target.flush()


def _print_rest(door: Cluster, job: str, which: dict[str, Any], after: int, printer: Printer) -> tuple[int, bool]:
    """Every piece after the cursor; (the cursor to go on from, is the job over)."""
    while True:
        page = door.log_page(job, after=after, **which)
        for piece in page["items"]:
            printer(piece)
        if page["next"] == after:
            return after, bool(page["over"])
        after = page["next"]


def _follow(door: Cluster, job: str, which: dict[str, Any], after: int, printer: Printer) -> None:
    """Until the job has ended, and a moment longer: the last lines may still be on their way."""
    ended_at: float | None = None
    while ended_at is None or time.monotonic() - ended_at < LATE_S:
        time.sleep(POLL_S)
        after, over = _print_rest(door, job, which, after, printer)
        if over and ended_at is None:
            ended_at = time.monotonic()
        if not over:
            ended_at = None


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    job: Annotated[str | None, typer.Option("--job", "-j", help="Only of this job.")] = None,
    after: Annotated[str | None, typer.Option("--after", help="Only after this event's id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what happens in the cluster, or what happened to one job."""
    with cluster() as door:
        if job is not None and not follow:
            return show(list(door.job_events(about(job))), as_json, draw.draw_events)
        stream = (each for each in door.events(after=after) if job is None or str(each.get("job_number")) == job)
        for event in itertools.islice(stream, limit):
            draw.print_json_line(event) if as_json else draw.draw_events([event])
