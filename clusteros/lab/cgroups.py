"""Cgroups of a lab: one per node below one for the lab, in every hierarchy that this user may write (cgroups v1 and v2)."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("freezer", "memory", "cpu", "pids")


def hierarchies() -> list[Path]:
    """Mount points of the hierarchies used: the v1 controllers, or the one of v2."""
    v1 = [ROOT / name for name in CONTROLLERS if (ROOT / name / "cgroup.procs").exists()]
    if v1:
        return v1
    return [ROOT] if (ROOT / "cgroup.controllers").exists() else []


def join(name: str, pid: int, cpu_shares: int = 1024) -> bool:
    """Make the cgroup `name` everywhere and put `pid` in; False when none could be made (an ordinary user).

    `cpu_shares` is its weight beside its siblings where the cpu controller of cgroups v1 is there (1024 is the usual one).
    """
    joined = False
    for hierarchy in hierarchies():
        with contextlib.suppress(OSError):
            (hierarchy / name).mkdir(parents=True, exist_ok=True)
            (hierarchy / name / "cgroup.procs").write_text(str(pid))
            if cpu_shares != 1024 and (hierarchy / name / "cpu.shares").exists():
                (hierarchy / name / "cpu.shares").write_text(str(cpu_shares))
            joined = True
    return joined


def remove(name: str, timeout_s: float = 5.0) -> list[Path]:
    """Remove the cgroup and all below it, the deepest first; what would not go is returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = []
        for hierarchy in hierarchies():
            top = hierarchy / name
            for folder in sorted((p for p in [top, *top.rglob("*")] if p.is_dir()), key=lambda p: -len(p.parts)):
                try:
                    folder.rmdir()
                except OSError:
                    left.append(folder)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
