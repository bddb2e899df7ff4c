#!/usr/bin/env python3
"""Huge pages on a machine that has too few of them: a restore is refused before anything is begun, with both numbers, and so is the question beforehand;
with enough of them the same image comes back. A file of a hugetlbfs that is mounted on the machine is refused by name.

COVERAGE: files of huge pages (of the machine's hugetlbfs) | refused | file of huge pages"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from huge_pages import POOL, free, huge_pages
from pod_lab import Lab, finish, last, native, ok, scratch, until
from t_victims import BUILD, USER, Trial

COUNT = 24
MAPPED = """
import ctypes, os, sys, time
l = ctypes.CDLL(None)
l.mmap.restype = ctypes.c_long
l.mmap.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
f = os.open(sys.argv[1], os.O_RDWR)
if l.mmap(0, 2 << 20, 3, 1, f, 0) == -1: sys.exit('it cannot be mapped')
if sys.argv[2] == 'mapped': os.close(f)
print('ready', flush=True)
while True: time.sleep(1)
"""


def pool(count: int) -> None:
    POOL.write_text(str(count))


def too_few() -> None:
    with scratch("huge") as place, Lab() as lab, huge_pages(COUNT):
        shutil.copy(BUILD / "c_huge", place)
        t, before = Trial(lab, place / "c_huge"), int(POOL.read_text())
        why = t.start() or t.snapshot(0, 1, "--then", "kill") or t.ended(0)
        ok(not why and until(lambda: free() == COUNT), "a job with huge pages is captured and ended", (why, free()))
        pool(3)
        answer = last(native("restore", "--image", t.image(1), "--store", t.store, "--pod", t.pod(1), *t.files()))
        said = f"{answer.get('message')}"
        ok(answer.get("exit") == 69 and "huge pages of 2048 KiB, free on this machine: 3" in said, "three are too few for it, with both numbers", answer)
        ok(not t.pod(1).exists(), "and nothing was made")
        needed = int(said.partition("it needs ")[2].partition(" ")[0] or 0)
        answer = last(native("image-fit", "--image", t.image(1)))
        ok(answer.get("exit") == 69 and f"it needs {needed} huge pages" in f"{answer.get('message')}", "nor would it fit, asked beforehand", answer)
        pool(needed - 1)
        answer = last(native("restore", "--image", t.image(1), "--store", t.store, "--pod", t.pod(1), *t.files()))
        ok(answer.get("exit") == 69, "one less than it needs is refused as well", answer)
        pool(needed)
        why = t.restore(1, 1) or t.verify(1)
        ok(not why, "just as many as it needs bring it back", why)
        pool(before)


def named(place: Path) -> None:
    """In a mount namespace of its own, below a folder whose mounts pods see."""
    subprocess.run(["mount", "-t", "hugetlbfs", "-o", "mode=0777", "none", place], check=True)
    file = place / "file"
    file.touch()
    os.truncate(file, 2 << 20)
    file.chmod(0o666)
    with Lab() as lab:
        for how in ("open", "mapped"):
            out, pod = lab.dir / f"out-{how}", lab.pod(how)
            native("run", "--pod", pod, *USER, "--stdout", out, "--stderr", out, "--", "/usr/bin/python3", "-c", MAPPED, file, how)
            ok(until(lambda out=out: "ready" in out.read_text()), f"a job has a file of a hugetlbfs {how}", out.read_text())
            answer = last(native("snapshot", "--pod", pod, "--image", lab.dir / "image", "--store", lab.dir / "store"))
            ok(answer.get("exit") == 69 and "file of huge pages" in f"{answer.get('message')}", "which is refused by name", answer)
        told = f"{last(native('check', '--pod', lab.pod('open')))}"
        ok("file of huge pages" in told, "also by check", told)


def in_a_namespace() -> None:
    place = Path(f"/home/clusteros-huge-{os.getpid()}")
    place.mkdir(mode=0o755)
    try:
        with huge_pages(4):
            result = subprocess.run(["unshare", "-m", sys.executable, __file__, "--named", str(place)], capture_output=True, text=True)
        for line in result.stdout.splitlines():
            if line.startswith(("ok ", "not ok ")):
                ok(line.startswith("ok "), line.partition(" - ")[2], result.stdout + result.stderr)
        ok("1.." in result.stdout, "the file system of its own was there", result.stdout + result.stderr)
    finally:
        place.rmdir()


def main() -> int:
    if sys.argv[1:2] == ["--named"]:
        named(Path(sys.argv[2]))
        return finish()
    for test in (in_a_namespace, too_few):
        try:
            test()
        except OSError as error:
            ok(False, "huge pages", error)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
