"""`make bench`: speed of the engine beside the physical limit, measured in one run on this machine; prints a table.

First issue 4's table with its limits (limits.py), then one process beside a memcpy of the same size, then a plot of pause and size.
With `--job`, the demonstration's MPI job in a lab of its own: pause of all pods together, time until complete, size.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from benches import limits, plot  # noqa: E402
from benches.engine import NATIVE, READY_MEBIBYTES, Pod, compile_program, memory_ready, native, running  # noqa: E402

screen = Console(highlight=False)


def wait_for_line(path: Path, line: str, timeout_s: float = 60.0) -> None:
    """Until the pod's output has `line`."""
    deadline = time.monotonic() + timeout_s
    while not path.exists() or line not in path.read_text().splitlines():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} has no line '{line}' after {timeout_s:.0f} s")
        time.sleep(0.01)


def measure_process(directory: Path, hog: Path, mebibytes: int) -> dict[str, float]:
    """One snapshot and one restore of a process of that size; seconds and bytes."""
    pod, image, store, out = directory / "pod", directory / "image", directory / "store", directory / "out"
    native("run", "--pod", str(pod), "--stdout", str(out), "--stderr", str(out), "--", str(hog), str(mebibytes))
    try:
        wait_for_line(out, "ready")
        memory_ready()
        clock = time.monotonic()
        taken = native("snapshot", "--pod", str(pod), "--image", str(image), "--store", str(store), "--then", "kill")[-1]
        snapshot_s = time.monotonic() - clock
    finally:
        subprocess.run([str(NATIVE), "kill", "--pod", str(pod)], capture_output=True, check=False)
    back = directory / "pod2"
    memory_ready()
    clock = time.monotonic()
    native("restore", "--image", str(image), "--store", str(store), "--pod", str(back))
    restore_s = time.monotonic() - clock
    try:
        native("kill", "--pod", str(back), "--signal", str(int(signal.SIGUSR1)))
        ended = native("wait", "--pod", str(back), "--timeout", "60")[-1]
        if ended["exit_status"] != 0:
            raise RuntimeError(f"the restored process found its memory changed: {ended}")
    finally:
        subprocess.run([str(NATIVE), "kill", "--pod", str(back)], capture_output=True, check=False)
    return {"pause_s": taken["pause_ms"] / 1e3, "snapshot_s": snapshot_s, "restore_s": restore_s, "bytes": taken["bytes"]}


def memcpy_s(program: Path, mebibytes: int) -> float:
    """Seconds of a memcpy of that size, the best of five."""
    run = subprocess.run([str(program), str(mebibytes)], capture_output=True, text=True, check=True)
    return float(run.stdout.split()[0])


def bench_process(mebibytes: int, repeats: int) -> None:
    """Table of one process, medians."""
    with tempfile.TemporaryDirectory(prefix="clusteros-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")) as name:
        directory = Path(name)
        hog, memcpy = compile_program("hog", directory), compile_program("memcpy", directory)
        limit = memcpy_s(memcpy, mebibytes)
        rows = []
        for k in range(repeats):
            place = directory / str(k)
            place.mkdir()
            rows.append(measure_process(place, hog, mebibytes))
            shutil.rmtree(place)
    table = Table(title=f"A process of {mebibytes} MiB, incompressible; median of {repeats}", title_justify="left")
    for heading in ("", "seconds", "GB/s", "times a memcpy"):
        table.add_column(heading, justify="right" if heading else "left")
    size = mebibytes << 20
    table.add_row("memcpy (the limit)", f"{limit:.3f}", f"{size / limit / 1e9:.1f}", "1.0")
    for key, words in (("pause_s", "pause"), ("snapshot_s", "snapshot, durable"), ("restore_s", "restore")):
        value = statistics.median(row[key] for row in rows)
        table.add_row(words, f"{value:.3f}", f"{size / value / 1e9:.2f}", f"{value / limit:.1f}")
    screen.print(table, f"image: {statistics.median(row['bytes'] for row in rows) / 1e6:.0f} MB")


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="clusteros-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp"))


def bench_limits(sizes: limits.Sizes, wanted: list[str]) -> None:
    """Issue 4's table; every row is judged."""
    with scratch() as name:
        rows = limits.measure(Path(name), compile_program("victim", Path(name)), sizes, wanted)
    limits.show(screen, rows)


def changes(pod: Pod, mebibytes: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Pause and new megabytes after 0, 1, 5 and about 22 per cent of the pages were written."""
    pause, size = [], []
    for percent, touches in ((0, 0), (1, 0), (5, 1), (22, 5)):
        if percent == 1:
            pod.ask(limits.FEW, "touched")
        for _ in range(touches):
            pod.ask(limits.MORE, "touched")
        taken = pod.snapshot(follow=True)
        pause.append((float(percent), float(taken["pause_ms"])))
        size.append((float(percent), taken["bytes_new"] / 1e6))
    return pause, size


def bench_plot(path: Path, largest: int) -> None:
    """Pause and size of a generation against memory and share of changed pages."""
    pause: plot.Series = {}
    size: plot.Series = {}
    for mebibytes in (largest // 4, largest // 2, largest):
        with scratch() as name, running(Path(name), compile_program("victim", Path(name)), "pages", mebibytes) as pod:
            limits.prepared(pod)
            pause[f"{mebibytes} MiB"], size[f"{mebibytes} MiB"] = changes(pod, mebibytes)
    plot.write(path, pause, size)
    screen.print(f"plot: {path}")


def main() -> None:
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job", action="store_true", help="the MPI job of the demonstration instead (some minutes)")
    parser.add_argument("--timeline", action="store_true", help="with --job: where each generation's pause went, step by step")
    parser.add_argument("--full", action="store_true", help="4 GiB instead of 256 MiB")
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(limits.CASES), help="some rows of the table")
    parser.add_argument("--plot", type=Path, default=REPOSITORY / "var" / "pause.svg", help="the committed one is benches/pause.svg")
    arguments = parser.parse_args()
    if not arguments.job:
        sizes = limits.Sizes(4096 if arguments.full else arguments.mebibytes, arguments.repeats)
        READY_MEBIBYTES[0] = max(READY_MEBIBYTES[0], 2 * sizes.mebibytes + 512)
        bench_limits(sizes, arguments.only)
        if not arguments.only:
            bench_process(sizes.mebibytes, sizes.repeats)
            bench_plot(arguments.plot, sizes.mebibytes)
    else:
        from clusteros.lab.bench import bench_job

        with tempfile.TemporaryDirectory(prefix="clusteros-bench-") as name:
            memcpy = compile_program("memcpy", Path(name))
            bench_job(screen, lambda mebibytes: memcpy_s(memcpy, mebibytes), timelines=arguments.timeline)


if __name__ == "__main__":
    main()
