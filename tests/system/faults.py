"""What system tests lose: processes of the lab by kill -9, the content of Redis. Only processes inside the lab are ever touched."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from clusteros.lab import lifecycle, supervise
from clusteros.lab.layout import Lab


def _children() -> dict[int, list[int]]:
    tree: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        tree.setdefault(parent, []).append(int(entry.name))
    return tree


def lab_pids(lab: Lab) -> Iterator[int]:
    """Every process inside the lab, as this namespace numbers it."""
    tree, todo = _children(), [lifecycle.pid_of(lab) or 0]
    while todo:
        for child in tree.get(todo.pop(), []):
            todo.append(child)
            yield child


def environment_of(lab: Lab, module: str) -> dict[str, str]:
    """Of the lab's process that runs this module: what a command of the front end needs."""
    for pid in lab_pids(lab):
        try:
            if module in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                items = Path(f"/proc/{pid}/environ").read_text().split("\0")
                return dict(item.split("=", 1) for item in items if "=" in item)
        except OSError:
            continue
    raise AssertionError(f"the lab runs no {module}")


def engine_pids(lab: Lab) -> list[tuple[int, list[str]]]:
    """(pid, argv) of every process of the engine: keepers, podinits, snapshots, restores."""
    found = []
    for pid in lab_pids(lab):
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if argv and os.path.basename(argv[0]) == "native":
            found.append((pid, argv))
    return found


def kill_pids(pids: list[int]) -> int:
    """kill -9; how many were still there."""
    killed = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            continue
    return killed


def kill_program(lab: Lab, name: str) -> None:
    """kill -9 of a front-end process."""
    supervise.control(lab.socket).signalProcess(name, "KILL")


@contextlib.contextmanager
def killing_again_and_again(lab: Lab, name: str, *, while_there: Path, times: int = 2) -> Iterator[list[float]]:
    """kill -9 of a front-end process, `times` times a second apart, each while a file is there; yields the instants of the kills."""
    killed: list[float] = []
    over = threading.Event()

    def kill() -> None:
        while len(killed) < times and not over.wait(0.05):
            with contextlib.suppress(OSError, xmlrpc.client.Fault):
                if while_there.exists():
                    kill_program(lab, name)
                    killed.append(time.monotonic())
                    over.wait(1)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def kill_node_services(lab: Lab) -> None:
    """kill -9 of every node service."""
    for name in lab.node_names():
        supervise.control(lab.node_socket(name)).signalProcess("service", "KILL")


def flush_redis(lab: Lab) -> None:
    """FLUSHALL."""
    client = redis.Redis(unix_socket_path=str(lab.front / "redis" / "redis.sock"), password=lab.settings()["redis_password"])
    client.flushall()


FRONT: dict[str, Callable[[Lab], None]] = {
    "web": lambda lab: kill_program(lab, "web"),
    "scheduler": lambda lab: kill_program(lab, "scheduler"),
    "control": lambda lab: kill_program(lab, "control"),
    "node services": kill_node_services,
    "database": lambda lab: kill_program(lab, "postgres"),
    "redis": lambda lab: kill_program(lab, "redis"),
    "redis content": flush_redis,
}


def kill_one_podinit(lab: Lab) -> int:
    """kill -9 of process 1 of one pod: the pod is gone at once, as when a node dies under it."""
    for pid, argv in engine_pids(lab):
        numbers = pids_inside(pid)
        if numbers and numbers[-1] == 1 and "--keeper" not in argv:
            return kill_pids([pid])
    return 0


def node_pid(lab: Lab, node: str) -> int:
    """Process 1 of a node, as this namespace numbers it: the grandchild of the program that the supervisor runs."""
    inner, tree = int(supervise.control(lab.socket).getProcessInfo(node)["pid"]), _children()
    outer = next(pid for pid in lab_pids(lab) if len(pids_inside(pid)) == 2 and pids_inside(pid)[-1] == inner)
    return tree[tree[outer][0]][0]


def pids_inside(pid: int) -> list[int]:
    """The numbers of a process from this namespace inwards (NSpid, proc(5)); empty when it is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    if "\nState:\tZ" in status:
        return []
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return [int(number) for number in line.split()[1:]]
