#!/usr/bin/env python3
"""Files of the host's part of the root that a job changes while it has them mapped or open: after a restore, on the same node and on one where the
file is another, every mapping shows what it showed, every path what it showed.

COVERAGE: mapped host file that the job changed meanwhile | captured | the mapping keeps what it showed, like an unlinked file
COVERAGE: open file on a file system that no image carries (mounted home, shared storage) | differs | its content stays as it is; a change since the snapshot is told, or refused (native restore --files refuse)
COVERAGE: open file on such a file system that is written and has only grown | captured | with --files restore: it is cut back, and what was added is kept beside it; not where the job has locks on it
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from pod_lab import Lab, finish, last, native, ok, scratch, until

SOURCE = """
import mmap, os, signal, sys, time
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
path = sys.argv[1]
f = os.open(path, os.O_RDONLY)
private = mmap.mmap(f, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
shared = mmap.mmap(f, 0, mmap.MAP_SHARED, mmap.PROT_READ)
private[0:3] = b"own"
w = os.open(path, os.O_RDWR)  # the overlay makes its copy now
os.pwrite(w, b"NEW" * 1000, 4096)
os.ftruncate(w, 3 * 4096 + 100)
after = mmap.mmap(os.open(path, os.O_RDONLY), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
def check(why):
    assert private[0:3] == b"own" and private[3:4096] == b"o" * 4093, why
    assert private[4096:len(private)] == b"o" * (len(private) - 4096) and shared[:] == b"o" * len(shared), why
    assert after[4096:4096 + 3000] == b"NEW" * 1000 and after[0:4096] == b"o" * 4096 and len(after) == 3 * 4096 + 100, why
    assert os.pread(f, 3, 4096) == b"NEW" and os.fstat(w).st_size == 3 * 4096 + 100, why
check("before")
print("ready", flush=True)
while not asked: time.sleep(0.01)
check("after")
print("OK", flush=True)
"""


def verified(lab: Lab, pod: str, out: Path) -> str:
    native("kill", "--pod", lab.pod(pod), "--signal", 10)
    answer = lab.wait(pod)
    return "" if answer.get("exit_status") == 0 and out.read_text().endswith("OK\n") else f"{answer} {out.read_text()}"


OUTSIDE = """
import os, signal, sys, time
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
log, data = open(sys.argv[1] + "/log", "a"), open(sys.argv[1] + "/data")
log.write("before\\n"); log.flush(); data.read(3)
print("ready", flush=True)
while not asked: time.sleep(0.01)
log.write("after\\n"); log.flush(); assert data.read(3) in ("456", "xyz")
print("OK", flush=True)
"""


def warnings(result: subprocess.CompletedProcess[bytes]) -> str:
    lines = [json.loads(line) for line in result.stdout.decode().splitlines()]
    return " / ".join(line["message"] for line in lines if line["event"] == "warn")


def outside(place: Path) -> None:
    """In a mount namespace of its own: `place` is a file system of its own below the root, like a mounted home."""
    (place / "data").write_text("123456")
    (place / "log").touch()
    for path in (place, place / "data", place / "log"):
        os.chown(path, 1000, 1000)
    with Lab() as lab:
        out, image, store = lab.dir / "out", lab.dir / "image", lab.dir / "store"
        files = ("--stdout", out, "--stderr", out)
        last(native("run", "--pod", lab.pod("one"), "--uid", 1000, "--gid", 1000, *files, "--", "/usr/bin/python3", "-c", OUTSIDE, place))
        ok(until(lambda: "ready" in out.read_text()), "a job has files open that no image carries", out.read_text())
        answer = last(native("snapshot", "--pod", lab.pod("one"), "--image", image, "--store", store, "--then", "kill"))
        ok(answer["event"] == "done", "it is captured", answer)
        lab.wait("one")
        result = native("image-fit", "--image", image)
        ok(last(result).get("fits") is True and not warnings(result), "asked beforehand, the machine could bring it back", result.stdout)
        restore = ("restore", "--image", image, "--store", store, *files, "--pod")
        result = native(*restore, lab.pod("two"), "--files", "refuse")
        why = warnings(result) or verified(lab, "two", out)
        ok(not why, "nothing has changed: it comes back and says nothing", why or result.stdout)
        (place / "data").write_text("uvwxyz")
        said = warnings(native("image-fit", "--image", image))
        ok("data, which no image carries, has another content" in said, "and says which files have changed since", said)
        answer = last(native("image-fit", "--image", image, "--files", "refuse"))
        ok(answer.get("exit") == 69 and "since the snapshot" in answer["message"], "or refuses, as the restore would", answer)
        answer = last(native(*restore, lab.pod("three"), "--files", "refuse"))
        ok(answer.get("exit") == 69 and "since the snapshot" in answer["message"], "changed files refuse a restore that is asked to", answer)
        out.write_text("")
        said = warnings(native(*restore, lab.pod("four")))
        why = verified(lab, "four", out)
        ok("log, which no image carries, has grown" in said and "data, which no image carries, has another content" in said and not why,
           "else they are told, and it comes back", (said, why))
        with (place / "log").open() as other:  # as another pod of the job would say that it had more of the file
            fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, (1 << 62) + 9, 1, 0))
            out.write_text("")
            said = warnings(native(*restore, lab.pod("five"), "--files", "restore"))
            why = verified(lab, "five", out)
        ok("another pod had more of it" in said and not why, "what another pod has more of is not cut", (said, why))
        grown = (place / "log").read_text()
        out.write_text("")
        said = warnings(native(*restore, lab.pod("six"), "--files", "restore"))
        why = verified(lab, "six", out)
        tails = [path.read_text() for path in place.glob("log.tail-*") if path.stat().st_uid == 1000]
        ok("was cut back to 7 bytes" in said and tails == [grown[7:]] and not why, "a file that has grown is cut back, its tail kept", (said, tails, why))
        ok((place / "log").read_text() == "before\nafter\n" and grown.count("after") == 3, "and what is written now comes where it belongs", grown)


def mounted() -> None:
    place = Path(f"/home/clusteros-test-{os.getpid()}")
    place.mkdir(mode=0o755)
    try:
        result = subprocess.run(["unshare", "-m", sys.executable, __file__, "--outside", str(place)], capture_output=True, text=True)
        for line in result.stdout.splitlines():
            if line.startswith(("ok ", "not ok ")):
                ok(line.startswith("ok "), line.partition(" - ")[2], result.stdout + result.stderr)
        ok("1.." in result.stdout, "the file system of its own was there", result.stdout + result.stderr)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> int:
    if sys.argv[1:2] == ["--outside"]:
        subprocess.run(["mount", "--bind", sys.argv[2], sys.argv[2]], check=True)
        outside(Path(sys.argv[2]))
        return finish()
    mounted()
    with scratch("host") as place, Lab() as lab:
        data = place / "data"
        data.write_bytes(b"o" * 5 * 4096)
        os.chown(data, 1000, 1000)
        out, image = lab.dir / "out", lab.dir / "image"
        files = ("--stdout", out, "--stderr", out)
        last(native("run", "--pod", lab.pod("one"), "--uid", 1000, "--gid", 1000, *files, "--", "/usr/bin/python3", "-c", SOURCE, data))
        ok(until(lambda: "ready" in out.read_text()), "a job changes a file of the host that it has mapped", out.read_text())
        answer = last(native("snapshot", "--pod", lab.pod("one"), "--image", image, "--store", lab.dir / "store"))
        why = verified(lab, "one", out) if answer["event"] == "done" else answer
        ok(not why, "it runs on after a snapshot", why)
        for which, content in (("two", b"o" * 5 * 4096), ("three", b"another node's")):
            data.write_bytes(content)
            out.write_text("")
            answer = last(native("restore", "--image", image, "--store", lab.dir / "store", "--pod", lab.pod(which), *files))
            why = verified(lab, which, out) if answer["event"] == "done" else answer
            ok(not why, f"mappings and paths show what they showed (the host has {content[:5]!r})", why)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
