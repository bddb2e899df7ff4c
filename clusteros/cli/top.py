"""`top`: what the cluster does now, drawn anew until interrupted; `store`: what the images take."""

from __future__ import annotations

import itertools
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from clusteros.cli import draw
from clusteros.cli.door import JsonFlag, about, cluster, out, show
from clusteros.client import Cluster
from clusteros.words import ago_words, size_words, when

LIVE = "starting,running,suspended,restoring,queued,held"
SHOWN = 30
BAR = 12


def top(
    every: Annotated[float, typer.Option("--every", "-d", min=0.5, help="Seconds between looks.")] = 2.0,
    looks: Annotated[int | None, typer.Option("--looks", "-n", min=1, help="Stop after so many.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show nodes and jobs with what they use, again and again; Ctrl-C ends it."""
    with cluster() as door:
        if as_json or not sys.stdout.isatty():
            return _print(door, looks or 1, every, as_json)
        with Live(_picture(_look(door)), console=out, screen=True, auto_refresh=False) as live:
            for _ in itertools.count() if looks is None else range(looks - 1):
                time.sleep(every)
                live.update(_picture(_look(door)), refresh=True)


def _print(door: Cluster, looks: int, every: float, as_json: bool) -> None:
    for look in range(looks):
        if look:
            time.sleep(every)
        seen = _look(door)
        draw.print_json_line(seen) if as_json else out.print(_picture(seen))


def _look(door: Cluster) -> dict[str, Any]:
    return {"nodes": door.nodes(), "jobs": list(door.jobs(state=LIVE, limit=SHOWN))}


def _picture(seen: dict[str, Any]) -> Group:
    nodes, jobs = seen["nodes"], seen["jobs"]
    up = [node for node in nodes if node["state"] != "lost"]
    cores, load = sum(n["cores"] for n in up), sum(n["load1"] for n in up)
    states = ", ".join(f"{len(list(group))} {state}" for state, group in itertools.groupby(sorted(j["state"] for j in jobs)))
    head = Text(f"{len(up)} of {len(nodes)} nodes up, {cores} cores, load {load:.1f}; {states or 'no jobs'}")
    return Group(head, Text(), _nodes(nodes), Text(), _jobs(jobs))


def _nodes(nodes: list[Any]) -> Any:
    rows = draw.table("NODE", "STATE", "LOAD", "MEMORY", ">PODS", "HEARD")
    for node in nodes:
        memory = _bar(node["mem_used_bytes"], node["mem_bytes"]) + f" {size_words(node['mem_used_bytes'])}"
        load = _bar(node["load1"], node["cores"]) + f" {node['load1']:.1f} of {node['cores']}"
        heard = ago_words(when(node["last_heartbeat"]))
        rows.add_row(node["name"], draw.coloured(node["state"]), load, memory, str(len(node["pods"])), heard)
    return rows


def _jobs(jobs: list[Any]) -> Any:
    rows = draw.table(">JOB", "NAME", "STATE", ">PODS", "OWNER", "LAST GENERATION", "")
    for job in jobs:
        last = job.get("last_generation")
        since = f"{last['number']}, {ago_words(when(last['taken_at']))}" if last else "none"
        figures = (str(job["pods"]), Text(job["owner"]), since, Text(job["waiting_because"][:60]))
        rows.add_row(str(job["number"]), Text(job["name"]), draw.coloured(job["state"]), *figures)
    return rows


def _bar(used: float, total: float) -> str:
    full = round(BAR * min(1.0, used / total)) if total else 0
    return "█" * full + "░" * (BAR - full)


def store(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Of this job by generation, and what a removal would free.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the images of generations take, by node and by job; or by generation of one job."""
    if job is not None:
        about(job)
    with cluster() as door:
        found = door.store() if job is None else door.job_store(job)
    show(found, as_json, draw.draw_store if job is None else draw.draw_job_store)
