"""`processes`, `core`, `export` and `diff`: what a generation holds, a process of it for a debugger, all of it as one file, and what the
job used then and uses now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from clusteros.cli import draw
from clusteros.cli.door import JobArgument, JsonFlag, about, cluster, err, out, show, stop_with
from clusteros.cli.generations import GenerationArgument
from clusteros.words import size_words


def processes(job: JobArgument, generation: GenerationArgument, as_json: JsonFlag = False) -> None:
    """List the processes that a generation holds."""
    about(job)
    with cluster() as door:
        found = door.processes(job, generation)
    show(found, as_json, lambda pods: _draw(job, generation, pods))


def _draw(job: str, generation: int, pods: list[Any]) -> None:
    rows = draw.table(">POD", ">PID", ">PARENT", "NAME", ">THREADS", ">MEMORY", "PROGRAM")
    for pod in pods:
        for each in pod["processes"]:
            figures = (str(each["threads"]), size_words(each["bytes"]), escape(each["exe"]))
            rows.add_row(str(pod["pod"]), str(each["pid"]), str(each["ppid"]), escape(each["name"]), *figures)
        if pod["words"]:
            err.print(f"pod {pod['pod']}: {escape(pod['words'])}")
    out.print(rows)
    out.print(f"[dim]one of them for gdb:[/dim]  clusteros core {job} {generation} PID --pod N")


def diff(job: JobArgument, generation: GenerationArgument, as_json: JsonFlag = False) -> None:
    """Show what a job used when a generation was taken, beside what it uses now."""
    about(job)
    with cluster() as door:
        found = door.difference(job, generation)
    show(found, as_json, draw.draw_difference)


def core(
    job: JobArgument,
    generation: GenerationArgument,
    pid: Annotated[int, typer.Argument(metavar="PID", min=1, help="The process, as the job numbers it.")],
    pod: Annotated[int, typer.Option("--pod", "-p", min=0, help="In which pod.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; jobN-gN-podN-PID.core if not given.")] = None,
) -> None:
    """Save a process of a generation as an ELF core: gdb opens the past."""
    about(job)
    path = output or Path(f"job{job}-g{generation}-pod{pod}-{pid}.core")
    with cluster() as door:
        _save(path, door.core(job, generation, pod, pid))
    out.print(f"{path}: {size_words(path.stat().st_size)}; open it:  gdb PROGRAM {path}", soft_wrap=True)


def export(
    job: JobArgument,
    generation: GenerationArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; jobN-gN.tar if not given.")] = None,
) -> None:
    """Save a whole generation as a tar, to be kept outside the cluster (back: clusteros node import, clusteros server import)."""
    about(job)
    path = output or Path(f"job{job}-g{generation}.tar")
    with cluster() as door:
        _save(path, door.export(job, generation))
    out.print(f"{path}: {size_words(path.stat().st_size)}; its README says how it is opened:  tar tf {path}", soft_wrap=True)


def _save(path: Path, pieces: Iterator[bytes]) -> None:
    """Under its name only when it is whole and on the disk, and readable by its owner alone: it holds a job's memory."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with err.status(f"{path}") as status, os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
                status.update(f"{path}: {size_words(file.tell())}")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as fault:
        raise stop_with("IO", f"{path} cannot be written: {fault}") from fault
    finally:
        fresh.unlink(missing_ok=True)
