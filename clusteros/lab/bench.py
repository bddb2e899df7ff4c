"""The demonstration's MPI job, measured (`make bench`): pause of all pods together, time until stored and complete, a rollback.

Every figure is a median over a few generations of one run, beside a memcpy of as many bytes on the same machine in the same minute.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from clusteros.client import Cluster
from clusteros.lab import demo, lifecycle, timeline
from clusteros.lab.layout import Lab, default_lab
from clusteros.lab.mpi import find_mpi

GENERATIONS = 5
LOOK_S = 1.5  # whoever looks more often is a good part of what the machine has to do


def bench_job(screen: Console, memcpy_s: Callable[[int], float], mpi: str = "openmpi", timelines: bool = False) -> None:
    """Run the job in a lab of its own and print a table; `memcpy_s` gives the seconds of a memcpy of so many bytes. With
    `timelines` also where each generation's pause went."""
    lab = Lab(default_lab().directory.parent / "bench")
    lifecycle.down(lab, wipe=lab.directory.exists(), say=lambda text: None)
    try:
        lifecycle.up(lab, port=lifecycle.DEFAULT_PORT + 20, say=lambda text: None)
        with Cluster(lifecycle.url_of(lab), lifecycle.read_login(lab)["admin"]["token"]) as cluster:
            show = demo.Demo(lab, cluster, find_mpi(mpi, lambda text: None), blocks=400)
            found, rollback_s = _measure(show)
            cuts = [cut for number, cut in sorted(timeline.read_cuts(lab).items()) if number in {g["number"] for g in found}]
            for cut in cuts if timelines else []:
                timeline.show(screen, cut)
            _print(screen, found, rollback_s, cuts, memcpy_s)
    finally:
        lifecycle.down(lab, wipe=True, say=lambda text: None)


def _measure(show: demo.Demo) -> tuple[list[dict[str, Any]], float]:
    """Generations of a running job, and the seconds of a rollback to the last of them."""
    job = demo.submit_heat(show, "bench", 0)
    demo.wait_for("the job running", lambda: show.cluster.job(job)["state"] == "running", 60)
    time.sleep(8)  # past its start: every rank computes and exchanges
    while (have := len(demo.complete(show, job))) < GENERATIONS:
        demo.wait_for("a generation to begin", partial(show.cluster.checkpoint, job), 60)
        demo.wait_for("a generation", partial(_more_than, show, job, have), 90, LOOK_S)
    found, epoch = demo.complete(show, job), demo.the_run(show, job)["epoch"]
    clock = time.monotonic()
    show.cluster.rollback(job, found[-1]["number"])
    demo.wait_for("the rollback", lambda: demo.resumed(show, job, epoch), 90)
    took = time.monotonic() - clock
    show.cluster.cancel(job)
    return found, took


def _more_than(show: demo.Demo, job: str, have: int) -> bool:
    return len(demo.complete(show, job)) > have


def _print(
    screen: Console, generations: list[dict[str, Any]], rollback_s: float, cuts: list[timeline.Cut], memcpy_s: Callable[[int], float]
) -> None:
    size = int(statistics.median(g["bytes"] for g in generations))
    limit = memcpy_s(max(1, size >> 20))
    title = f"The demonstration's job: 6 ranks on 3 pods, {size / 1e6:.0f} MB; median of {len(generations)}"
    table = Table(title=title, title_justify="left")
    for heading in ("", "seconds", "times a memcpy"):
        table.add_column(heading, justify="right" if heading else "left")
    rows = {
        "memcpy of as many bytes (the limit)": limit,
        "pause, from the first stop to the last go of any pod": statistics.median(cut.pause_s for cut in cuts),
        "pause of the pod that stood longest": statistics.median(g["pause_ms"] for g in generations) / 1e3,
        "slowest pod stored, durable": statistics.median(g["took_ms"] for g in generations) / 1e3,
        "generation complete, two replicas": statistics.median(_complete_s(g) for g in generations),
        "rollback, with a safety generation first": rollback_s,
    }
    for words, seconds in rows.items():
        table.add_row(words, f"{seconds:.3f}", f"{seconds / limit:.1f}")
    new = statistics.median(g["bytes_new"] for g in generations[1:])
    screen.print(table, f"new bytes of a further generation: {new / 1e6:.0f} MB")


def _complete_s(generation: dict[str, Any]) -> float:
    start, end = (datetime.fromisoformat(generation[key]) for key in ("taken_at", "completed_at"))
    return (end - start).total_seconds()
