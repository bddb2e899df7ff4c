"""The processes of a pod, read from outside: pid inside and outside, name, state, memory.

From the cgroup that the engine's state file names, else from process 1's namespace. Nothing is asked of the pod.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LISTED_MAX = 256


@dataclass(frozen=True)
class Process:
    pid: int
    """As the pod sees it."""
    outer: int
    comm: str
    state: str
    mem_bytes: int


def read_state(pod_dir: Path) -> dict[str, str]:
    """The engine's state file: key=value lines."""
    try:
        text = (pod_dir / "state").read_text(errors="replace")
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def init_pid(pod_dir: Path) -> int:
    value = read_state(pod_dir).get("init_pid", "0")
    return int(value) if value.isdecimal() else 0


def list_processes(pod_dir: Path) -> list[Process]:
    """The job's processes, without process 1 of the pod; the first LISTED_MAX by pid."""
    init = init_pid(pod_dir)
    if init <= 1:
        return []
    found = []
    for outer in sorted(_members(pod_dir, init)):
        with suppress(OSError, KeyError, ValueError, IndexError):
            process = _read(outer)
            if process.pid != 1:
                found.append(process)
        if len(found) >= LISTED_MAX:
            break
    return found


def as_report(processes: list[Process]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(p).items() if key != "outer"} for p in processes]


def _members(pod_dir: Path, init: int) -> set[int]:
    for key, folder in read_state(pod_dir).items():
        if key.startswith("cgroup.") and folder:
            with suppress(OSError):
                return _in_cgroup(Path(folder))
    namespace = _namespace(str(init))
    if not namespace:
        return set()
    return {int(name) for name in os.listdir("/proc") if name.isdecimal() and _namespace(name) == namespace}


def _in_cgroup(folder: Path) -> set[int]:
    """The cgroup and those below it; process ids as this node sees them."""
    members: set[int] = set()
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        members |= {int(line) for line in (path / "cgroup.procs").read_text().split()}
    return members


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _read(outer: int) -> Process:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{outer}/status").read_text().splitlines() if ":" in line)
    rss = int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
    inner = int(fields["NSpid"].split()[-1])
    return Process(inner, outer, fields["Name"].strip(), fields["State"].split()[0], rss)
