"""Issue 4's table: each row measured in one run on this machine beside the limit that it is judged by, and what others published.

Figures of CRIU 4.2 and DMTCP are those of a machine like this one; sizes that differ from ours stand behind them in brackets.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches import store
from benches.cost import measure_cost
from benches.engine import PEAK_BYTES, Pod, compile_program, median, memory_ready, running

FEW, MORE, ALL, HOT, REST = (signal.SIGRTMIN + k for k in range(5))


@dataclass
class Row:
    """One line: `value` is good when it is at most `limit`."""

    what: str
    value: float
    limit: float
    unit: str
    others: str = ""

    @property
    def good(self) -> bool:
        return self.value <= self.limit


@dataclass
class Sizes:
    mebibytes: int = 256
    repeats: int = 3


Case = Callable[[Path, Path, Sizes], list[Row]]


def fork_ms(pod: Pod) -> float:
    return float(pod.ask(signal.SIGUSR2, "fork").split()[1])


def prepared(pod: Pod) -> None:
    """Two generations: from the second on it is known what is written."""
    pod.snapshot()
    pod.snapshot(follow=True)


def huge_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))


def whole_again(pod: Pod, mebibytes: int) -> None:
    """Until the huge pages that the last generation's copy made small are back: nobody takes generations without a moment between."""
    deadline = time.monotonic() + 30
    while huge_kib(pod.pid()) < mebibytes << 10 and time.monotonic() < deadline:
        time.sleep(0.05)


def pauses(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    """Pause of a process that writes at full speed, beside a fork() of it; with huge pages; engine's memory."""
    rows = []
    for kind in ("pages", "huge"):
        with running(base, program, kind, sizes.mebibytes) as pod:
            limit = fork_ms(pod) + 5 if kind == "pages" else 10 * sizes.mebibytes / 4096 + 5
            pod.signal(ALL)
            pod.wait_for("at")
            taken = []
            for _ in range(sizes.repeats):
                if kind == "huge":
                    whole_again(pod, sizes.mebibytes)
                taken.append(float(pod.snapshot()["pause_ms"]))
            value = median(taken)
            pod.signal(REST)
        words = f"pause, {sizes.mebibytes} MiB in {'4 KiB' if kind == 'pages' else 'huge'} pages, a full-speed writer"
        rows.append(Row(words, value, limit, "ms", "CRIU 930, DMTCP 890 (1 GiB)" if kind == "pages" else ""))
    return rows


def changed(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    """Generations of which little changed: pause, bytes and time beside a full one."""
    rows = []
    with running(base, program, "pages", sizes.mebibytes) as pod:
        full = pod.snapshot()
        pod.snapshot(follow=True)
        for number, part, limit in ((FEW, "1 %", 0.03), (MORE, "5 %", 0.08)):
            pod.ask(number, "touched")
            few = pod.snapshot(follow=True)
            if number == FEW:
                rows.append(Row("pause when 1 % changed", few["pause_ms"], 15, "ms", "CRIU: not on this kernel"))
            rows.append(Row(f"bytes when {part} changed, of a full one", few["bytes_new"] / full["bytes_new"], limit, ""))
            rows.append(Row(f"time when {part} changed, of a full one", few["took_ms"] / full["took_ms"], limit, ""))
    return rows


def lost_s(pod: Pod, number: int, *options: object) -> float:
    """Seconds of work that a full-speed writer loses by one snapshot: what it would have written meanwhile and did not."""
    pod.signal(number)
    pod.wait_for("at", 100)
    memory_ready()
    time.sleep(0.1)
    begin = time.time()
    pod.snapshot_now(*options)
    end = time.time()
    time.sleep(0.3)
    pod.signal(REST)
    points = [(float(a), int(b)) for _, a, b in (line.split() for line in pod.lines("at")) if float(a) > begin - 0.1]
    before = [p for p in points if p[0] < begin]
    during = [p for p in points if begin <= p[0] <= end]
    after = next(p for p in points if p[0] > end)
    rate = (before[-1][1] - before[0][1]) / (before[-1][0] - before[0][0])
    written = (during[-1] if during else after)[1] - before[-1][1]
    return max(0.0, (end - begin) - written / rate)


def lost_work(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    rows = []
    for number, words, limit in ((ALL, "everywhere", 0.7), (HOT, "in 1/16", 0.5)):
        lost = []
        for options in ((), ("--live", "off")):
            with running(base, program, "pages", sizes.mebibytes) as pod:
                lost.append(lost_s(pod, number, *options))
        rows.append(Row(f"work lost by a writer {words}, beside a stopped copy", lost[0] / lost[1], limit, ""))
    return rows


def content(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    rows = []
    for kind, limit in (("sparse", 0.06), ("floats", 0.75)):
        with running(base, program, kind, sizes.mebibytes) as pod:
            taken = pod.snapshot("--then", "kill")
            rows.append(Row(f"image of {kind} memory, of its size", taken["bytes_new"] / (sizes.mebibytes << 20), limit, ""))
    return rows


def new_store(pod: Pod) -> Pod:
    """What the last image left is not met again."""
    shutil.rmtree(pod.store, ignore_errors=True)
    return pod


def writing(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    """A full image until it is durable, beside the slower of: 60 % of what the processors do in memory, 90 % of what the disk takes."""
    rows = []
    mebibytes = max(sizes.mebibytes, 512)
    bench = store.compile_bench(base)
    for kind, words in (("pages", "random"), ("floats", "float64"), ("sparse", "zero-rich")):
        whole, direct = store.measure_limits(bench, kind, mebibytes, base)
        with running(base, program, kind, mebibytes) as pod:
            taken = [new_store(pod).snapshot() for _ in range(sizes.repeats)]
        best = min(taken, key=lambda one: one["took_ms"])
        cores, disk = (mebibytes << 20) / 1e6 / whole / 0.6, best["bytes_new"] / 1e6 / direct / 0.9
        which = f"60 % of {whole:.1f} GB/s in memory" if cores > disk else f"90 % of the disk's {direct:.1f} GB/s"
        rows.append(
            Row(
                f"writing {mebibytes} MiB of {words} memory, durable ({which})",
                best["took_ms"],
                max(cores, disk),
                "ms",
                "CRIU 940 (1 GiB, never fsyncs)",
            )
        )
    return rows


def equal_pages(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    with running(base, program, "ranks", 6, 32) as pod:
        taken = pod.snapshot("--then", "kill")
    return [Row("six ranks with the same 32 MiB, of one's size", taken["bytes_new"] / (32 << 20), 1.1, "")]


def cost(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    others = {"open and close": "DMTCP 6.6", "fork and wait": "DMTCP 8.7", "malloc": "DMTCP 2.5", "pipe": "DMTCP 1.5"}
    measured = measure_cost(base, compile_program("cost", base))
    return [Row(f"time of {kind} in a pod, of that outside", value, 1.01, "", others.get(kind, "")) for kind, value in measured.items()]


def restores(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    """All at once, and the program before its memory: of this size, and of 1 GiB."""
    with running(base, program, "pages", sizes.mebibytes) as pod:
        pod.snapshot("--then", "kill")
        value = median([pod.restore() for _ in range(sizes.repeats)])
    rows = [Row(f"restore of {sizes.mebibytes} MiB, all in", value, sizes.mebibytes / 2048 * 600, "ms", "CRIU 810, DMTCP 990 (1 GiB)")]
    for mebibytes in sorted({sizes.mebibytes, 1024}):
        with running(base, program, "ticks", mebibytes) as pod:
            pod.snapshot("--then", "kill")
            pairs = [pod.restore_lazily() for _ in range(sizes.repeats)]
        words, limit = f"lazy restore of {mebibytes} MiB", mebibytes / 2048 * 600
        all_in, first = (median(list(values)) for values in zip(*pairs, strict=True))
        rows.append(Row(f"{words}, first instruction", first, 20, "ms", "CRIU lazy 23"))
        rows.append(Row(f"{words}, all in, one processor busy with the program", all_in, limit, "ms", "CRIU lazy 630 (1 GiB)"))
    return rows


def many(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    rows = []
    cases = (
        ("100 processes", ("processes", 100, 2), 60, 150, ("CRIU 610, DMTCP 4,870", "CRIU 380, DMTCP 2,740")),
        ("2,000 threads", ("threads", 2000), 150, 300, ("CRIU 77 (200)", "CRIU 97 (200)")),
        ("1,000 sockets", ("sockets", 1000), 60, 120, ("CRIU 160", "CRIU 180")),
    )
    for words, arguments, pause, back, others in cases:
        with running(base, program, *arguments) as pod:
            prepared(pod)
            value = median([float(pod.snapshot(follow=True)["pause_ms"]) for _ in range(sizes.repeats)])
            rows.append(Row(f"{words}: pause", value, pause, "ms", others[0]))
            pod.snapshot("--then", "kill")
            rows.append(Row(f"{words}: restore", median([pod.restore() for _ in range(sizes.repeats)]), back, "ms", others[1]))
    return rows


def memory(base: Path, program: Path, sizes: Sizes) -> list[Row]:
    """Of this run's greatest engines; copies of shared memory that wait to be written are not in these cases."""
    return [Row(f"engine's memory, {verb}", PEAK_BYTES[verb] / (1 << 20), 128, "MiB") for verb in ("snapshot", "restore")]


CASES: dict[str, Case] = {
    "pauses": pauses, "changed": changed, "lost_work": lost_work, "content": content,
    "writing": writing, "equal_pages": equal_pages, "cost": cost, "restores": restores, "many": many, "memory": memory,
}  # fmt: skip


def show(screen: Console, rows: list[Row]) -> None:
    table = Table(title="Against the limits", title_justify="left")
    for heading in ("", "measured", "limit", "", "others"):
        table.add_column(heading, justify="right" if heading in ("measured", "limit") else "left")
    for row in rows:
        digits = 3 if not row.unit else 0 if row.value >= 100 else 1
        limit = f"{row.limit:.{0 if row.unit else 3}f} {row.unit}"
        table.add_row(row.what, f"{row.value:.{digits}f} {row.unit}", limit, "yes" if row.good else "NO", row.others)
    screen.print(table)


def measure(base: Path, program: Path, sizes: Sizes, wanted: list[str]) -> list[Row]:
    rows = []
    for name, case in CASES.items():
        if not wanted or name in wanted:
            rows += case(base, program, sizes)
    return rows
