"""What it costs a program to run in a pod while no snapshot is taken: the same rounds inside and outside, in turns, on one processor.

Of each kind the median of the quickest rounds counts (the machine's other work only adds); the file that is opened lies on a
tmpfs on both sides.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

from benches.engine import Pod, native, running

KINDS = ("compute", "malloc", "open and close", "fork and wait", "pipe", "TCP")
ROUNDS = 60
QUICKEST = 10


class Side:
    """One running cost program: its pid as we see it, and what it printed."""

    def __init__(self, pid: int, out: Path) -> None:
        self.pid, self.out, self.seen = pid, out, 0

    def lines(self) -> list[str]:
        return [line for line in self.out.read_text().splitlines() if line.startswith("round")]

    def round_ns(self, kind: int) -> float:
        before = len(self.lines())
        os.kill(self.pid, signal.SIGRTMIN + kind)
        deadline = time.monotonic() + 30
        while len(found := self.lines()) == before:
            if time.monotonic() > deadline:
                raise RuntimeError("the program gave no round")
            time.sleep(0.001)
        return float(found[-1].split()[2])


def ratios(inside: Side, outside: Side) -> dict[str, float]:
    """By kind: time inside over time outside."""
    found = {}
    for kind, name in enumerate(KINDS):
        pairs = [(inside.round_ns(kind), outside.round_ns(kind)) for _ in range(ROUNDS)]
        within, without = (statistics.median(sorted(side)[:QUICKEST]) for side in zip(*pairs, strict=True))
        found[name] = within / without
    return found


def measure_cost(base: Path, program: Path) -> dict[str, float]:
    out = base / "outside"
    with running(base, program, "/dev/shm/cost-of-a-pod") as pod, out.open("w") as file:
        begun = subprocess.Popen([program, "/dev/shm/cost-of-a-pod"], stdout=file)
        try:
            wait_ready(out)
            return ratios(Side(outer_pid(pod), pod.out), Side(begun.pid, out))
        finally:
            begun.kill()
            begun.wait()
            Path("/dev/shm/cost-of-a-pod").unlink(missing_ok=True)


def wait_ready(out: Path) -> None:
    deadline = time.monotonic() + 30
    while "ready" not in out.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError("the program outside did not begin")
        time.sleep(0.01)


def outer_pid(pod: Pod) -> int:
    inner = native("stat", "--pod", pod.pod)[-1]["command_pid"]
    return int(native("pid", "--pod", pod.pod, "--inside", inner)[-1]["pid"])
