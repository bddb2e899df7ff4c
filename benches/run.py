"""`make bench`: speed of the engine beside the physical limit, measured in one run on this machine; prints a table.

One process of 1 GiB: snapshot (pause, all of it, bytes), restore, each beside a memcpy of the same size.
With `--job`, the demonstration's MPI job in a lab of its own: pause of all pods together, time until complete, size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
NATIVE = REPOSITORY / "native" / "build" / "native"
screen = Console(highlight=False)


def compile_program(name: str, directory: Path) -> Path:
    """Compile benches/NAME.c; the path of the program."""
    program = directory / name
    subprocess.run(["gcc", "-O2", "-o", str(program), str(REPOSITORY / "benches" / f"{name}.c")], check=True)
    return program


def native(*arguments: str) -> dict[str, Any]:
    """Run the engine; its `done` line.

    Raises:
        RuntimeError: it failed; its own words are in the text.
    """
    run = subprocess.run([str(NATIVE), *arguments], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode != 0 or not lines or lines[-1]["event"] != "done":
        raise RuntimeError(f"native {arguments[0]}: {lines[-1] if lines else run.stderr}")
    return dict(lines[-1])


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
        clock = time.monotonic()
        taken = native("snapshot", "--pod", str(pod), "--image", str(image), "--store", str(store), "--then", "kill")
        snapshot_s = time.monotonic() - clock
    finally:
        subprocess.run([str(NATIVE), "kill", "--pod", str(pod)], capture_output=True, check=False)
    back = directory / "pod2"
    clock = time.monotonic()
    native("restore", "--image", str(image), "--store", str(store), "--pod", str(back))
    restore_s = time.monotonic() - clock
    try:
        native("kill", "--pod", str(back), "--signal", str(int(signal.SIGUSR1)))
        ended = native("wait", "--pod", str(back), "--timeout", "60")
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


def main() -> None:
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job", action="store_true", help="the MPI job of the demonstration instead (some minutes)")
    arguments = parser.parse_args()
    if not arguments.job:
        bench_process(arguments.mebibytes, arguments.repeats)
    else:
        from clusteros.lab.bench import bench_job

        with tempfile.TemporaryDirectory(prefix="clusteros-bench-") as name:
            memcpy = compile_program("memcpy", Path(name))
            bench_job(screen, lambda mebibytes: memcpy_s(memcpy, mebibytes))


if __name__ == "__main__":
    main()
