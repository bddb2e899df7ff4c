#!/usr/bin/env python3
"""What stays refused of IPC namespaces that the job made: memory that a process took along from another one, also where its number is another segment's
there, and semaphores with SEM_UNDO."""

from __future__ import annotations

import sys

from pod_lab import Lab, finish, last, native, ok, until
from t_victims import USER

BEGIN = """
import ctypes, signal
l = ctypes.CDLL(None, use_errno=True)
l.shmat.restype = ctypes.c_long
def own():
    if l.unshare(0x18000000): raise OSError(ctypes.get_errno())
def segment():
    id = l.shmget(0, 4096, 0o1600)
    if id < 0 or l.shmat(id, None, 0) == -1: raise OSError(ctypes.get_errno())
    return id
"""
END = """
print('ready', flush=True)
while True: signal.pause()
"""
CASES = (
    ("memory taken along into a namespace without it", "segment(); own()", "which is not in its ipc namespace"),
    ("memory taken along into one with another of its number", "id = segment(); own(); assert l.shmget(0, 4096, 0o1600) == id", "of another ipc namespace than that of a process that has it"),
    (
        "semaphores with SEM_UNDO in it",
        "own(); id = l.semget(0, 1, 0o1600); b = (ctypes.c_short * 3)(0, 1, 0x1000); assert l.semop(id, b, 1) == 0",
        "it may have used System V semaphores with SEM_UNDO",
    ),
)


def main() -> int:
    with Lab() as lab:
        for number, (what, code, words) in enumerate(CASES):
            out, pod = lab.dir / f"out-{number}", lab.pod(f"pod-{number}")
            native("run", "--pod", pod, *USER, "--stdout", out, "--stderr", out, "--", "/usr/bin/python3", "-c", BEGIN + code + END)
            there = until(lambda out=out: "ready" in out.read_text() or "Error" in out.read_text()) and "ready" in out.read_text()
            answer = last(native("snapshot", "--pod", pod, "--image", lab.dir / f"image-{number}", "--store", lab.dir / "store"))
            ok(there and answer.get("exit") == 69 and words in f"{answer.get('message')}", f"{what}: refused by name", (answer, out.read_text()))
            ok(lab.stat(f"pod-{number}").get("processes", 0) > 0, "and it runs on")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
