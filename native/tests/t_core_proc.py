#!/usr/bin/env python3
"""Processes in odd states: interactive shells with job control on a controlling terminal, 2,000 threads, children of vfork that go on and that wait for
ever, what processes may forbid the engine."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from pod_lab import HERE, NATIVE, Lab, finish, last, native, ok, scratch
from t_core_more import Script, state
from t_victims import whole_life

HELD = """
import ctypes, os, threading, time
l = ctypes.CDLL(None, use_errno=True)
{body}
print('ready', flush=True)
time.sleep(1000)
"""
VFORK_FOR_EVER = """
stack = ctypes.create_string_buffer(65536)
top = ctypes.c_void_p(ctypes.addressof(stack) + 65536 - 64)
threading.Thread(target=lambda: l.clone(ctypes.cast(l.pause, ctypes.c_void_p), top, 0x4100 | 17, None), daemon=True).start()
while not open(f'/proc/self/task/{os.getpid()}/children').read() and len(os.listdir('/proc/self/task')) < 2:
    time.sleep(0.01)
time.sleep(0.2)
"""
STRICT = """
r, w = os.pipe()
if os.fork() == 0:
    l.prctl(22, 1, 0, 0, 0)
    os.read(r, 1)
while 'Seccomp:\t1' not in open('/proc/' + open(f'/proc/self/task/{os.getpid()}/children').read().split()[0] + '/status').read():
    time.sleep(0.01)
"""
DEADLY = """
import struct
code = ctypes.create_string_buffer(struct.pack('HBBI' * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 239, 6, 0, 0, 0x80000000, 6, 0, 0, 0x7FFF0000))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 4, ctypes.addressof(code)))
assert l.prctl(38, 1, 0, 0, 0) == 0 and l.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0
"""
APART = """
threading.Thread(target=lambda: (l.unshare({flags}), print('ready', flush=True), time.sleep(1000))).start()
time.sleep(1000)
"""
SHARED_APART = """
def apart():
    assert l.unshare(0x200) == 0
    threading.Thread(target=lambda: (print('ready', flush=True), time.sleep(1000))).start()
    time.sleep(1000)
threading.Thread(target=apart).start()
time.sleep(1000)
"""
# COVERAGE: child of vfork that goes on | captured | waited for
# COVERAGE: child of vfork that never goes on | refused | for a child of vfork, or for a device
# COVERAGE: threads with descriptors of their own | refused | one of its threads has descriptors of its own
# COVERAGE: threads with a working directory that only some of them share | refused | two of its threads share a working directory that is not the process's
FORBIDDEN = (
    ("one of its threads has descriptors of its own", APART.format(flags="0x400")),
    ("two of its threads share a working directory that is not the process's", SHARED_APART),
    ("it is in the strict mode of seccomp", STRICT),
    ("its seccomp filters end it for a call that the engine has to make in it", DEADLY),
    ("forbids itself memory that is written and executed (PR_SET_MDWE)", "assert l.prctl(65, 1, 0, 0, 0) == 0"),
    (
        "takes its own system calls (PR_SET_SYSCALL_USER_DISPATCH)",
        "allow = ctypes.c_char(0); assert l.prctl(59, 1, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_void_p(ctypes.addressof(allow))) == 0",
    ),
)


def shells(lab: Lab, place: Path) -> None:
    shutil.copy(HERE / "core_bash.py", place)
    commands = {"bash -i": ["bash", "--norc", "-i"], "script": ["script", "-qc", "bash --norc -i", "/tmp/typescript"]}
    for name, command in commands.items():
        why = whole_life(Script(lab, name.split()[0], "/usr/bin/python3", place / "core_bash.py", *command))
        ok(not why, f"an interactive shell with jobs ({name}) runs on and comes back twice", why)


def many_threads(lab: Lab, place: Path) -> None:
    shutil.copy(NATIVE.parent / "victims" / "c_many", place)
    why = whole_life(Script(lab, "many", place / "c_many", 2000))
    ok(not why, "a process of 2,000 threads runs on and comes back twice", why)


def vforks(lab: Lab) -> None:
    t = Script(lab, "vforks", "/bin/sh", "-c", "trap 'echo OK; exit 0' USR1; echo ready; while :; do /bin/true; done")
    why = t.start()
    pauses = []
    for number in range(10):
        native("freeze", "--pod", t.pod(0))
        answer = last(native("snapshot", "--pod", t.pod(0), "--image", t.image(number), "--store", t.store))
        why = why or ("" if answer.get("event") == "done" and state(t, 0) == "frozen" else str(answer))
        pauses.append(float(str(answer.get("pause_ms", 0))))
        native("thaw", "--pod", t.pod(0))
    ok(not why, "a pod frozen in the midst of vfork is captured every time, and stays frozen", why)
    why = t.verify(0) or t.restore(9, 1) or t.verify(1)
    ok(not why, f"and runs on, and comes back (pauses {min(pauses):.0f} to {max(pauses):.0f} ms)", why)


def vfork_for_ever(lab: Lab) -> None:
    t = Script(lab, "waits", "/usr/bin/python3", "-c", HELD.format(body=VFORK_FOR_EVER))
    why = t.start()
    began = time.monotonic()
    answer = last(native("snapshot", "--pod", t.pod(0), "--image", t.image(1), "--store", t.store))
    took_s = time.monotonic() - began
    good = answer.get("code") == "BUSY" and "for a child of vfork" in str(answer) and took_s < 30
    ok(not why and good, "a child of vfork that waits for ever: busy, in bounded time, with its reason", (why, took_s, answer))
    ok(state(t, 0) == "running" and not (t.pod(0) / "journal").exists(), "and the pod runs on")


class Plain(Script):
    """In a pod without a seccomp filter of its own, which would forbid the strict mode."""

    def files(self) -> tuple[object, ...]:
        return (*super().files(), "--io-uring", "allow")


def forbidden(lab: Lab) -> None:
    for number, (words, body) in enumerate(FORBIDDEN):
        kind = Plain if body == STRICT else Script
        t = kind(lab, f"forbids-{number}", "/usr/bin/python3", "-c", HELD.format(body=body))
        why = t.start()
        answer = last(native("snapshot", "--pod", t.pod(0), "--image", t.image(1), "--store", t.store))
        good = answer.get("code") == "UNSUPPORTED" and words in str(answer)
        ok(not why and good, f"refused by name: {words}", (why, answer))
        ok(state(t, 0) == "running" and not (t.pod(0) / "journal").exists(), "and the pod runs on")


def main() -> int:
    with scratch("proc") as place, Lab() as lab:
        shells(lab, place)
        many_threads(lab, place)
        for part in (vforks, vfork_for_ever, forbidden):
            part(lab)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
