"""Cgroups of a lab: one per node below one for the lab, in every hierarchy that this user may write (cgroups v1 and v2)."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("freezer", "memory", "cpu", "pids")
URGENT_PART, URGENT_FRONT_PART = 0.9, 0.15  # of each second, for a lab and its front end: some is left for the rest of the machine


def hierarchies() -> list[Path]:
    """Mount points of the hierarchies used: the v1 controllers, or the one of v2."""
    v1 = [ROOT / name for name in CONTROLLERS if (ROOT / name / "cgroup.procs").exists()]
    if v1:
        return v1
    return [ROOT] if (ROOT / "cgroup.controllers").exists() else []


def writable() -> bool:
    """Whether this user may make cgroups at all: without them nothing is limited and no pod can be frozen."""
    return any(os.access(hierarchy, os.W_OK) for hierarchy in hierarchies())


def join(name: str, pid: int) -> bool:
    """Make the cgroup `name` everywhere and put `pid` in; False when none could be made (an ordinary user)."""
    joined = False
    for hierarchy in hierarchies():
        with contextlib.suppress(OSError):
            (hierarchy / name).mkdir(parents=True, exist_ok=True)
            (hierarchy / name / "cgroup.procs").write_text(str(pid))
            joined = True
    return joined


def weigh(name: str, weight: int) -> None:
    """The weight of a cgroup beside its siblings, in units of an ordinary process (cpu.shares of v1, cpu.weight of v2)."""
    for hierarchy in hierarchies():
        for file, unit, most in (("cpu.shares", 1024, 262144), ("cpu.weight", 100, 10000)):
            with contextlib.suppress(OSError):
                if (hierarchy / name / file).exists():
                    (hierarchy / name / file).write_text(str(min(weight * unit, most)))


def allow_urgent(name: str, part: float) -> None:
    """The part of each second that real-time threads of the cgroup may run, where the kernel counts by groups (RT_GROUP_SCHED, v1).

    Without it they are refused below the top, and engines wait for others' turns while a job stands. What another lab has taken stays
    its own."""
    for hierarchy in hierarchies():
        file = hierarchy / name / "cpu.rt_runtime_us"
        with contextlib.suppress(OSError, ValueError):
            if file.exists():
                file.write_text(str(int(part * int((hierarchy / name / "cpu.rt_period_us").read_text()))))


def remove(name: str, timeout_s: float = 5.0) -> list[Path]:
    """Remove the cgroup and all below it, the deepest first; what would not go is returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = []
        for top in [ROOT / name, *ROOT.glob(f"*/{name}")]:  # the engine may have used more hierarchies than `join` did
            for folder in sorted((p for p in [top, *top.rglob("*")] if p.is_dir()), key=lambda p: -len(p.parts)):
                try:
                    folder.rmdir()
                except OSError:
                    left.append(folder)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
