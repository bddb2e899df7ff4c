"""How answers look in a terminal: tables, the tree of generations, colours of states. Pure but for the console."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from clusteros import lineage, thennow
from clusteros.cli.door import out
from clusteros.words import ago_words, count_words, ms_words, size_words, span_words, when

COLOURS = {
    "running": "green", "completed": "green", "complete": "green", "up": "green",
    "failed": "red", "lost": "red", "cancelled": "red", "deleted": "dim",
    "queued": "yellow", "held": "yellow", "suspended": "yellow", "draining": "yellow", "drained": "yellow",
    "starting": "magenta", "restoring": "magenta", "taking": "magenta", "storing": "magenta",
}  # fmt: skip


def coloured(state: str) -> Text:
    return Text(state, style=COLOURS.get(state, ""))


def table(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim", show_edge=False)
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return made


NO_JOBS = "No jobs. Submit one:  clusteros submit -- hostname"


def draw_jobs(jobs: Sequence[Any], none: str = NO_JOBS) -> None:
    if not jobs:
        out.print(none)
        return
    rows = table(">JOB", "NAME", "STATE", "SHAPE", "OWNER", "SUBMITTED", "")
    for job in jobs:
        rows.add_row(
            str(job["number"]), escape(job.get("name") or ""), coloured(job["state"]), _shape(job),
            escape(str(job.get("owner", ""))), ago_words(when(job.get("submitted_at"))),
            _remark(job),
        )  # fmt: skip
    out.print(rows)


def _shape(job: Any) -> str:
    return f"{job.get('pods', 1)}×{job.get('ranks_per_pod', 1)}"


def _remark(job: Any) -> str:
    if job.get("exit_status") is not None:
        return f"exit {job['exit_status']}"
    return escape(job.get("waiting_because") or job.get("reason") or "")


def draw_job(job: Any) -> None:
    out.print(Text.assemble((f"job {job['number']} ", "bold"), job.get("name") or "", "  "), coloured(job["state"]))
    for name, value in _facts(job):
        out.print(f"  [dim]{name:<16}[/dim] {escape(value)}")


def _facts(job: Any) -> list[tuple[str, str]]:
    facts = [
        ("owner", str(job.get("owner", ""))),
        ("command", " ".join(job["command"]) if job.get("command") else "(a script)"),
        ("shape", f"{job['pods']} pods × {job['ranks_per_pod']} ranks × {job['cores_per_rank']} cores"),
        ("memory", f"{size_words(job['mem_bytes'])} per pod"),
        ("walltime", span_words(job.get("walltime_s")) if job.get("walltime_s") else "no limit"),
        ("generations", _policy(job)),
        ("checkpointable", _checkpointable(job)),
    ]
    if job.get("last_generation"):
        last = job["last_generation"]
        facts.append(("last generation", f"{last['number']}, {ago_words(when(last['taken_at']))}"))
    if job.get("resuming"):
        way = job["resuming"]
        facts.append(("on its way", f"{way['cause']} to generation {way['generation']}: {way['state']}"))
    if job.get("waiting_because"):
        facts.append(("waits because", job["waiting_because"]))
    if job.get("exit_status") is not None:
        facts.append(("exit status", str(job["exit_status"])))
    if job.get("reason"):
        facts.append(("because", job["reason"]))
    return facts


def _policy(job: Any) -> str:
    every = f"every {span_words(job['interval_s'])}" if job.get("interval_s") else "on demand"
    return f"{every}, keep {job['keep']}" if job.get("keep") else every


def _checkpointable(job: Any) -> str:
    answer = job.get("checkpointable")
    if answer is None:
        return "not known yet"
    if answer:
        return "yes"
    return "no: " + "; ".join(obstacle_words(each) for each in job.get("obstacles") or [])


def obstacle_words(obstacle: Any) -> str:
    if isinstance(obstacle, str):
        return obstacle
    where = f"process {obstacle['pid']}" if obstacle.get("pid") else ""
    if obstacle.get("fd") is not None and obstacle.get("fd", -1) >= 0:
        where += f", descriptor {obstacle['fd']}"
    if obstacle.get("address"):
        where += f", memory at {obstacle['address']:#x}"
    if where and obstacle.get("pod") is not None:
        where = f"pod {obstacle['pod']}, {where}"
    words = obstacle.get("words", "")
    return f"{words} ({where})" if where else words


def draw_pods(run: Any) -> None:
    rows = table(">POD", "NODE", "STATE", ">PROCESSES", ">MEMORY", "")
    for pod in run["pods"]:
        figures = (str(pod["pids"] or "–"), size_words(pod["mem_bytes"]), escape(pod["message"] or ""))
        rows.add_row(str(pod["pod"]), pod["node"], coloured(pod["state"]), *figures)
    out.print(rows)


def draw_nodes(nodes: Sequence[Any]) -> None:
    if not nodes:
        out.print("No nodes yet. On each machine:  clusteros node join URL --token TOKEN   (a token: clusteros node token)")
        return
    rows = table("NODE", "STATE", ">CORES", ">MEMORY", ">PODS", "HEARD", "ADDRESS")
    for node in nodes:
        rows.add_row(
            node["name"], coloured(node["state"]), str(node["cores"]),
            f"{size_words(node.get('mem_used_bytes'))} of {size_words(node.get('mem_bytes'))}",
            str(len(node["pods"])), ago_words(when(node.get("last_heartbeat"))), str(node.get("address") or ""),
        )  # fmt: skip
    out.print(rows)


def draw_generations(generations: Sequence[Any], now: int | None, job_state: str) -> None:
    if not generations:
        out.print("No generations yet. Take one:  clusteros checkpoint JOB")
        return
    known = {each["number"]: each for each in generations}
    rows = lineage.lay_out({number: each.get("parent") for number, each in known.items()}, now)
    lanes = lineage.width(rows)
    if now in known:
        _draw_now(rows, lanes, now, job_state)
    for row in rows:
        if row.forks:
            out.print(_fork_line(row, lanes))
        out.print(_graph(row, lanes, known[row.number]), _generation_line(known[row.number]))


def _draw_now(rows: Sequence[lineage.Row], lanes: int, now: int | None, job_state: str) -> None:
    if rows[0].number == now:
        out.print(Text("◉ " + "  " * (lanes - 1), style="cyan"), Text(f"now ({job_state})", style="bold cyan"))


def _cells(row: lineage.Row, lanes: int, mark: str) -> list[str]:
    return [mark if lane == row.lane else "│" if lane in row.passing else " " for lane in range(lanes)]


def _graph(row: lineage.Row, lanes: int, generation: Any) -> Text:
    mark = {"complete": "●", "failed": "✗", "deleted": "○"}.get(generation["state"], "◌")
    return Text(" ".join(_cells(row, lanes, mark)) + " ", style="cyan")


def _fork_line(row: lineage.Row, lanes: int) -> Text:
    """The line above a generation from which branches leave: ├─╯ joins each branch's lane to its own."""
    furthest = max(row.forks)
    cells = ""
    for lane in range(lanes):
        between = row.lane <= lane < furthest
        cells += _fork_cell(row, lane, furthest) + ("─" if between else " ")
    return Text(cells, style="cyan")


def _fork_cell(row: lineage.Row, lane: int, furthest: int) -> str:
    if lane == row.lane:
        return "├"
    if lane in row.forks:
        return "╯" if lane == furthest else "┴"
    if row.lane < lane < furthest:
        return "┼" if lane in row.passing else "─"
    return "│" if lane in row.passing else " "


def _generation_line(generation: Any) -> Text:
    line = Text(f"{generation['number']:<4}", style="bold")
    line.append_text(coloured(f"{generation['state']:<9}"))
    if generation["state"] == "failed":
        return line.append(generation.get("reason") or "", style="red")
    size, pause = size_words(generation.get("bytes")), ms_words(generation.get("pause_ms"))
    line.append(f"{size:>10}  pause {pause}  {ago_words(when(generation.get('taken_at')))}")
    line.append(f"  {count_words(generation.get('replicas') or 0, 'replica')}", style="dim")
    if generation.get("pinned"):
        line.append("  pinned", style="yellow")
    return line


def draw_foresight(seen: Any) -> None:
    out.print(escape(seen["words"]))
    _draw_where(seen)


def draw_array(made: Any) -> None:
    first, last = made["items"][0]["number"], made["items"][-1]["number"]
    out.print(f"array {made['array']} submitted: jobs {first} to {last}; see them:  clusteros ps --array {made['array']}")


def draw_store(store: Any) -> None:
    size, pinned = size_words(store["bytes"]), store["pinned"]
    quota = f"; {size_words(store['quota_bytes'])} are allowed to one user" if store["quota_bytes"] else ""
    out.print(f"{count_words(store['generations'], 'generation')} kept, {size}" + (f", {pinned} pinned" if pinned else "") + quota)
    nodes = table("NODE", "STATE", ">IMAGES", ">STORE", ">DISK FREE")
    for node in store["nodes"]:
        figures = (str(node["images"]), size_words(node["store_bytes"]), size_words(node["disk_free_bytes"]))
        nodes.add_row(node["name"], coloured(node["state"]), *figures)
    out.print(nodes)
    places = table("SHARED DIRECTORY", "SEEN BY", ">IMAGES", ">STORE", ">FREE", "")
    for place in store["shared"]:
        figures = (str(place["images"]), size_words(place["bytes"]), size_words(place["free_bytes"]))
        places.add_row(escape(place["directory"]), ", ".join(place["nodes"]) or "[red]nobody[/red]", *figures, escape(place["words"]))
    if store["shared"]:
        out.print(places)
    jobs = table(">JOB", "NAME", "STATE", ">GENERATIONS", ">SIZE", "OWNER")
    for job in store["jobs"]:
        figures = (str(job["generations"]), size_words(job["bytes"]), escape(job["owner"]))
        jobs.add_row(str(job["number"]), escape(job["name"]), coloured(job["state"]), *figures)
    if store["jobs"]:
        out.print(jobs)


def draw_job_store(found: Any) -> None:
    rows = table(">GENERATION", "STATE", ">MEMORY AND FILES", ">NEW", ">REMOVAL FREES", "")
    for g in found["generations"]:
        figures = (size_words(g["bytes"]), size_words(g["bytes_new"]), size_words(g["frees"]))
        rows.add_row(str(g["number"]), coloured(g["state"]), *figures, "pinned" if g["pinned"] else "")
    out.print(rows)
    out.print(f"all of them together: {size_words(found['together'])} on all nodes")
    if found["words"]:
        out.print(f"[yellow]not asked[/yellow]: {escape(found['words'])}")


def draw_copy_plan(plan: Any) -> None:
    out.print(f"generation {plan['generation']}, {size_words(plan.get('bytes'))}, grows on beside its job")
    if plan.get("waits"):
        out.print(f"  [yellow]it would wait now[/yellow]: {escape(plan['waits'])}")
    _draw_where(plan)


def draw_plan(plan: Any) -> None:
    work, output = span_words(plan.get("lost_s")), size_words(plan.get("lost_log_bytes"))
    kept = "; the present is kept as a generation first" if plan.get("safety_generation") else ""
    out.print(f"undone by it: {work} of work, {output} of output{kept}")
    _draw_where(plan)


def draw_difference(found: Any) -> None:
    if not found.get("then"):
        out.print("What it used then was not noted: this record was made anew from the nodes' certificates.")
        return
    drawn = table("", ">THEN", ">NOW", ">DIFFERENCE")
    for row in thennow.rows(found):
        drawn.add_row(row.words, escape(row.then), escape(row.now), Text(row.change, style="yellow"))
    out.print(drawn)
    for name, words in (("begun", "begun since"), ("gone", "gone since")):
        listed = [f"{each['name']} (pid {each['pid']}, pod {each['pod']})" for each in found.get(name) or []]
        if listed:
            out.print(f"[dim]{words}:[/dim] {escape('; '.join(listed))}")


def _draw_where(plan: Any) -> None:
    for pod, node in sorted((plan.get("placement") or {}).items(), key=lambda each: int(each[0])):
        out.print(f"  pod {pod} on {escape(str(node))}")
    for check in plan.get("checks") or []:
        unsure = check.get("known") is False
        mark = "[red]✗[/red]" if not check.get("ok") else "[yellow]…[/yellow]" if unsure else "[green]✓[/green]"
        out.print(f"  {mark} {escape(str(check.get('words') or check.get('name')))}")


def draw_events(events: Sequence[Any]) -> None:
    for event in events:
        at = when(event.get("at"))
        clock = at.astimezone().strftime("%H:%M:%S") if at else ""
        job, node = event.get("job_number"), event.get("node")
        about = f"job {job}" if job else str(node or "")
        kind = str(event.get("kind", "")).replace(".", " ").replace("_", " ")
        out.print(f"[dim]{clock}[/dim]  {escape(about):<10}  [bold]{escape(kind)}[/bold]  {escape(str(event.get('words') or ''))}")


def print_json_line(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()
