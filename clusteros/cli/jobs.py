"""Commands about jobs: submit, ps, show, logs, exec, and the verbs that move a job."""

from __future__ import annotations

import base64
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from clusteros.cli import draw
from clusteros.cli.door import JobArgument, JsonFlag, YesFlag, about, ask, cluster, out, show, stop_with
from clusteros.client import Cluster, JobSpec
from clusteros.words import parse_size, parse_span, size_words

EXEC_TIMEOUT_S = 60
LIVE = "queued,held,starting,running,suspended,restoring"
NOTHING_LIVE = "Nothing runs or waits. What has ended:  clusteros ps --all"


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from wrong


def _span(text: str) -> int:
    try:
        return parse_span(text)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong)) from wrong


def submit(
    command: Annotated[list[str] | None, typer.Argument(help="The command, after --; or one file that starts with #!.")] = None,
    script: Annotated[Path | None, typer.Option(help="A script to run instead of a command; - reads it from here.")] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="What to call the job.")] = None,
    pods: Annotated[int, typer.Option("--pods", "-p", min=1, help="How many pods, on as many nodes where there are that many.")] = 1,
    ranks: Annotated[int, typer.Option("--ranks", "-r", min=1, help="Ranks in each pod.")] = 1,
    cores: Annotated[int, typer.Option("--cores", "-c", min=1, help="Cores for each rank.")] = 1,
    mem: Annotated[int | None, typer.Option("--mem", "-m", parser=_size, metavar="SIZE", help="Memory for each pod: 2G.")] = None,
    walltime: Annotated[int | None, typer.Option("--walltime", "-t", parser=_span, metavar="TIME", help="End it after: 1h30m.")] = None,
    every: Annotated[int | None, typer.Option("--every", parser=_span, metavar="TIME", help="Take a generation every so often.")] = None,
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="How many generations to keep (pinned ones stay).")] = None,
    keep_every: Annotated[int | None, typer.Option("--keep-every", min=0, help="And those whose number is a multiple of it.")] = None,
    keep_per: Annotated[str | None, typer.Option("--keep-per", metavar="hour|day", help="And the first of every hour or day.")] = None,
    file: Annotated[list[str] | None, typer.Option("--file", "-f", metavar="LOCAL[:NAME]", help="A file; again for more.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE", help="A variable; again for more.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="The queue.")] = None,
    node: Annotated[list[str] | None, typer.Option("--node", metavar="NAME", help="Where pod 0, 1, … shall run; again for more.")] = None,
    array: Annotated[str | None, typer.Option("--array", metavar="INDEXES", help="Once for each: 0-9, 1-99:2, 3,5,8.")] = None,
    held: Annotated[bool, typer.Option("--hold", help="It waits until it is released.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say where and when it would start.")] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end; the job's exit status is the command's.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Submit a job: a command, or a script.

    clusteros submit --pods 3 --ranks 2 --every 30s -- mpirun ./heat
    """
    wanted: dict[str, Any] = {
        "name": name, "pods": pods, "ranks_per_pod": ranks, "cores_per_rank": cores, "mem_bytes": mem,
        "walltime_s": walltime, "interval_s": every, "keep": keep, "keep_every": keep_every, "keep_per": keep_per,
        "queue": queue, "nodes": node, "hold": held or None,
        "env": _environment(env or []), "files": [_file(each) for each in file or []],
    }  # fmt: skip
    wanted |= _program(command or [], script)
    spec: JobSpec = {name: value for name, value in wanted.items() if value not in (None, {}, [])}  # type: ignore[assignment]
    if array and wait:
        raise stop_with("USAGE", "--wait follows one job, not an array")
    with cluster() as door:
        if dry_run:
            return show(door.foresee(spec), as_json, draw.draw_foresight)
        if array:
            return show(door.submit_array(spec, array), as_json, draw.draw_array)
        job = door.submit(spec)
        number = str(job["number"])
        if not wait:
            return show(job, as_json, lambda made: out.print(f"job {number} submitted; follow it:  clusteros logs -f {number}"))
        _wait_for(door, number, as_json)


def _program(command: list[str], script: Path | None) -> dict[str, Any]:
    if script and command:
        raise stop_with("USAGE", "give a command or --script, not both")
    if script:
        return {"script": _read_script(script)}
    if not command:
        raise stop_with("USAGE", "no command: clusteros submit [options] -- COMMAND…   or   clusteros submit --script FILE")
    alone = Path(command[0])
    if len(command) == 1 and alone.is_file() and alone.read_bytes()[:2] == b"#!":
        return {"script": alone.read_text(), "name": alone.name}
    return {"command": command}


def _read_script(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as fault:
        raise stop_with("NO_INPUT", f"the script {path} cannot be read: {fault}") from fault


def _environment(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair or pair.startswith("=")]
    if wrong:
        raise stop_with("USAGE", f"--env wants NAME=VALUE, not '{wrong[0]}'")
    return dict(pair.split("=", 1) for pair in pairs)


def _file(named: str) -> dict[str, Any]:
    local, _, remote = named.partition(":")
    path = Path(local)
    if not path.is_file():
        raise stop_with("NO_INPUT", f"there is no file {local}")
    data = base64.b64encode(path.read_bytes()).decode()
    return {"path": remote or path.name, "data": data, "executable": bool(path.stat().st_mode & 0o100)}


def _wait_for(door: Cluster, number: str, as_json: bool) -> None:
    ended = door.wait(number)
    show(ended, as_json, draw.draw_job)
    status = ended.get("exit_status")
    raise typer.Exit(status if status is not None else 0 if ended["state"] == "completed" else 1)


def ps(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Ended jobs too.")] = False,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Only those with this in their name.")] = None,
    array: Annotated[int | None, typer.Option("--array", help="Only the jobs of this array.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List jobs: what runs and what waits, and why."""
    with cluster() as door:
        found = list(door.jobs(state=state or (None if everything else LIVE), name=name, array=array, limit=limit))
        hidden = not (found or state or everything) and any(door.jobs(name=name, array=array, limit=1))
    show(found, as_json, partial(draw.draw_jobs, none=NOTHING_LIVE if hidden else draw.NO_JOBS))


def show_job(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Show one job: its state, its pods, what keeps it from being checkpointed."""
    about(job)
    with cluster() as door:
        found = door.job(job)
        if as_json:
            return show(found, True, draw.draw_job)
        draw.draw_job(found)
        newest = max(door.runs(job), key=lambda run: run["epoch"], default=None)
    if newest:
        draw.draw_pods(newest)


def exec_in(
    job: JobArgument,
    command: Annotated[list[str], typer.Argument(help="The command, after --.")],
    pod: Annotated[int, typer.Option("--pod", "-p", min=0, help="In which pod.")] = 0,
    timeout: Annotated[int | None, typer.Option("--timeout", parser=_span, metavar="TIME", help="Give up after; 60s.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a command inside a pod of a running job."""
    about(job)
    with cluster() as door:
        answer = door.exec(job, command, pod=pod, timeout_s=timeout or EXEC_TIMEOUT_S)
    show(answer, as_json, lambda said: out.print(said.get("output", ""), end="", markup=False))
    raise typer.Exit(int(answer.get("exit_status") or 0))


def cancel(job: JobArgument, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """End a job for good; its generations and output stay."""
    about(job)
    ask(f"End job {job}?", yes)
    _moved(job, "cancel", as_json)


def hold(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Keep a waiting job from starting."""
    _moved(job, "hold", as_json)


def release(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Let a held job start."""
    _moved(job, "release", as_json)


def suspend(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Freeze a running job where it is."""
    _moved(job, "suspend", as_json)


def resume(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Let a suspended job run on."""
    _moved(job, "resume", as_json)


def _moved(job: str, verb: str, as_json: bool) -> None:
    about(job)
    with cluster() as door:
        answer = getattr(door, verb)(job)
    show(answer, as_json, lambda said: out.print(f"job {job}: {said['state'] if said else verb}"))


def send_signal(
    job: JobArgument,
    signal: Annotated[str, typer.Argument(help="A signal: USR1, TERM, 10.")],
    as_json: JsonFlag = False,
) -> None:
    """Send a signal to every process of a job."""
    about(job)
    with cluster() as door:
        answer = door.signal(job, signal)
    show(answer, as_json, lambda said: out.print(f"job {job}: {signal} sent"))


def copy(
    job: JobArgument,
    generation: Annotated[int | None, typer.Option("--from", "-g", min=1, metavar="N", help="Grow from this generation.")] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="What to call the new job.")] = None,
    node: Annotated[list[str] | None, typer.Option("--node", metavar="NAME", help="Where pod 0, 1, … shall run; again for more.")] = None,
    held: Annotated[bool, typer.Option("--hold", help="It waits until it is released.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say where it would run (with --from).")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a new job from a job: the same once more from its start, or grown from one of its generations (--from)."""
    about(job)
    wanted = {"generation": generation, "name": name, "nodes": node, "hold": held or None, "dry_run": dry_run or None}
    with cluster() as door:
        made = door.copy(job, {key: value for key, value in wanted.items() if value is not None})
    show(made, as_json, draw.draw_copy_plan if dry_run else lambda said: _draw_copy(job, generation, said))


def _draw_copy(job: str, generation: int | None, made: Any) -> None:
    number, of = made["number"], f"generation {generation} of job {job}" if generation else f"job {job}, from its start"
    out.print(f"job {number} made from {of}; follow it:  clusteros logs -f {number}")


def files(job: JobArgument, as_json: JsonFlag = False) -> None:
    """List the files that a job left in its working directory."""
    about(job)
    with cluster() as door:
        found = door.files(job)
    show(found, as_json, _draw_files)


def _draw_files(found: list[Any]) -> None:
    rows = draw.table(">POD", "PATH", ">SIZE", "SHA-256")
    for each in found:
        rows.add_row(str(each.get("pod", "")), each["path"], size_words(each.get("size")), str(each.get("sha256", ""))[:16])
    out.print(rows if found else "No files yet: they are collected when the job ends.")
