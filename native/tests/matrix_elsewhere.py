#!/usr/bin/env python3
"""The column of the matrix in which a victim comes back on what might be another machine: other process, mount, network, UTS and IPC namespaces, another
host name, an overlay of the root with other /etc and without the victim's program, another hub, control group and build of the kernel. The image and its
chunks are all that both places share. As a program: `matrix_elsewhere.py DIRECTORY PROGRAM`, in its new namespaces."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

from pod_lab import Lab, native
from t_victims import Trial

SPACES = ("unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
ADDRESS = "ip=10.77.0.1/16,gw=10.77.255.254"
TIMEOUT_S = 180
ANOTHER = {"CLUSTEROS_OTHER_KERNEL": "1"}  # the engine takes this kernel for another build


class Traveller(Trial):
    """A trial in a network whose hub is another one in each place."""

    def __init__(self, lab: Lab, program: Path) -> None:
        super().__init__(lab, program)
        self.hub = lab.hub()

    def files(self) -> tuple[object, ...]:
        return (*super().files(), "--net", f"hub={self.hub},{ADDRESS}")


class Place(Lab):
    """A directory that another place made: it stays when we leave."""

    def __init__(self, directory: Path) -> None:
        self.dir, self.hubs = directory, []

    def __exit__(self, *_: object) -> None:
        for state in self.dir.glob("*/state"):
            native("kill", "--pod", state.parent)


def elsewhere(t: Trial, _: random.Random) -> str:
    here = Traveller(t.lab, t.program)
    why = here.start() or here.snapshot(0, 1, "--then", "kill") or here.ended(0)
    return why or travel(here)


def travel(t: Traveller) -> str:
    command = [*SPACES, sys.executable, str(Path(__file__).resolve()), str(t.lab.dir), str(t.program)]
    group = f"clusteros-elsewhere-{os.getpid()}"
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env={**os.environ, **ANOTHER, "CLUSTEROS_CGROUP": group})
    finally:
        for top in Path("/sys/fs/cgroup").glob(f"*/{group}"):
            top.rmdir()
    return "" if result.returncode == 0 else f"elsewhere: {result.stdout}{result.stderr}"


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def another_root(shared: Path, program: Path) -> None:
    """This machine's root with other names in /etc and without the program; of /tmp there is only `shared`."""
    top = shared / "elsewhere"
    root, upper, work = top / "root", top / "upper", top / "work"
    for folder in (root, work, upper / "etc"):
        folder.mkdir(parents=True)
    (upper / "etc" / "hostname").write_text("elsewhere\n")
    (upper / "etc" / "machine-id").write_text("e" * 32 + "\n")
    mount("--make-rprivate", "/")
    mount("-t", "overlay", "elsewhere", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", root)
    (root / str(program)[1:]).unlink()
    for path in ("/dev", "/sys", "/proc"):
        mount("--rbind", path, f"{root}{path}")
    for path in ("/tmp", "/run"):
        mount("-t", "tmpfs", "tmpfs", f"{root}{path}")
    (root / str(shared)[1:]).mkdir(parents=True, exist_ok=True)
    mount("--bind", shared, f"{root}{shared}")
    subprocess.run(["pivot_root", str(root), str(root / "mnt")], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/mnt"], check=True)


def arrive(directory: Path, program: Path) -> str:
    """Comes back, is captured here, comes back once more."""
    socket.sethostname("elsewhere")
    another_root(directory, program)
    with Place(directory) as lab:
        t = Traveller(lab, program)
        why = t.restore(1, 10) or t.snapshot(10, 2, "--parent", t.image(1), "--then", "kill") or t.ended(10)
        return why or t.restore(2, 11) or t.verify(11)


def main() -> int:
    why = arrive(Path(sys.argv[1]), Path(sys.argv[2]))
    if why:
        print(why)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
