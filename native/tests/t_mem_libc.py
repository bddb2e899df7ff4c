#!/usr/bin/env python3
"""Restores on a node whose C library or kernel is another build: programs come back with the library that they had, by content, and so does what they start
afterwards; a pod that is made there has the node's; the kernel's functions for programs (vDSO) lead on to the node's. Run as root; works in a mount
namespace of its own. The engine is told to take this kernel for another one; unit_vdso.c shows that nothing of the old functions is used."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pod_lab import NATIVE, Lab, finish, last, native, ok, scratch
from t_core_more import Script
from t_victims import Trial

# COVERAGE: executables and libraries of which the new machine has another build | captured | kept by content: the pod gets its own at their paths
# COVERAGE: vDSO under another kernel | captured | its functions lead on to the new kernel's; one without its like becomes a system call
BANNER = b"GNU C Library"
LIBRARY = Path(os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6"))
LOADER = Path(os.path.realpath("/lib64/ld-linux-x86-64.so.2"))
SHELL = "trap 'sha256sum {library} {loader} | cut -c1-64; echo OK; exit 0' USR1; echo ready; while :; do sleep 0.02; done"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def another_build(upper: Path) -> None:
    """They work as well, but no byte behind the banner stands where it stood."""
    for file in (LIBRARY, LOADER):
        there = upper / str(file)[1:]
        there.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes().replace(BANNER, BANNER[::-1]) + b"another build" * 1000
        there.write_bytes(data)
        shutil.copymode(file, there)


def another_root(top: Path) -> Path:
    root, upper, work = top / "root", top / "upper", top / "work"
    for folder in (root, upper, work):
        folder.mkdir()
    another_build(upper)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", root], check=True)
    return root


class Elsewhere(Script):
    """Comes back over the other root."""

    root = Path("/")

    def files(self) -> tuple[object, ...]:
        return (*super().files(), "--lower", self.root)


def comes_back(lab: Lab, place: Path, root: Path) -> None:
    shutil.copy(NATIVE.parent / "victims" / "c_threads", place)
    commands = {
        "a program with threads": (str(place / "c_threads"),),
        "a shell that starts programs": ("/bin/sh", "-c", SHELL.format(library=LIBRARY, loader=LOADER)),
    }
    for number, (name, command) in enumerate(commands.items()):
        t = Elsewhere(lab, f"program-{number}", *command)
        why = t.start() or t.snapshot(0, 1, "--then", "kill") or t.ended(0)
        t.root = root
        why = why or t.restore(1, 1) or t.snapshot(1, 2, "--parent", t.image(1), "--then", "kill") or t.ended(1)
        why = why or t.restore(2, 2) or t.verify(2)
        ok(not why, f"{name} comes back twice where the C library is another build", why)
        if number == 1:
            ok(
                digest(LIBRARY) in t.output() and digest(LOADER) in t.output(),
                "and what it starts finds the libraries that it had",
                t.output(),
            )


def maps_of(pod: Path) -> str:
    """Of the process that podinit has started or brought back first."""
    init = int(last(native("stat", "--pod", pod))["init_pid"])
    first = Path(f"/proc/{init}/task/{init}/children").read_text().split()[0]
    return max((task / "maps").read_text() for task in Path(f"/proc/{first}/task").iterdir())  # its first thread may have ended


def another_kernel(lab: Lab) -> None:
    """Programs that read clocks all the time, wait, take signals, make threads and have lost their first thread: from one kernel to the next, and the next."""
    os.environ["CLUSTEROS_OTHER_KERNEL"] = "1"
    for name in ("c_single", "c_busy", "c_waits", "c_signals", "c_threads", "c_leaderless"):
        t = Trial(lab, NATIVE.parent / "victims" / name)
        why = t.start() or t.snapshot(0, 1, "--then", "kill") or t.ended(0) or t.restore(1, 1)
        maps = "" if why else maps_of(lab.pod(f"{name}-1"))
        why = why or t.snapshot(1, 2, "--parent", t.image(1), "--then", "kill") or t.ended(1) or t.restore(2, 2) or t.verify(2)
        moved = [line for line in maps.splitlines() if line.endswith("[vdso]") and line.startswith("7fff")]
        ok(not why and len(moved) == 1, f"{name} goes on under another kernel, twice", why or maps)
    del os.environ["CLUSTEROS_OTHER_KERNEL"]


def new_pods(lab: Lab, root: Path) -> None:
    there = root / str(LIBRARY)[1:]
    ok(digest(there) != digest(LIBRARY), "the other node's C library is another one")
    out = lab.dir / "new.out"
    made = last(native("run", "--pod", lab.pod("new"), "--lower", root, "--stdout", out, "--", "sha256sum", LIBRARY))
    lab.wait("new")
    ok(digest(there) in out.read_text(), "a pod that is made there has the node's", (made, out.read_text()))


def main() -> int:
    if "CLUSTEROS_TEST_SPACE" not in os.environ:
        os.environ["CLUSTEROS_TEST_SPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, __file__])
    with scratch("libc") as place, Lab() as lab:
        root = another_root(place)
        try:
            new_pods(lab, root)
            comes_back(lab, place, root)
            another_kernel(lab)
        finally:
            subprocess.run(["umount", "-l", root], check=False)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
