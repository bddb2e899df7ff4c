#!/usr/bin/env python3
"""native image-core: a process of an image as an ELF core holds the memory and the registers that the process had; what is not
in the image is refused. The file is read here as elf(5) and core(5) say, and by gdb where there is one."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from pod_lab import HERE, NATIVE, Lab, finish, last, native, ok, scratch, until
from t_victims import Trial

PROGRAM = NATIVE.parent / "image_core"
NT_PRSTATUS, NT_AUXV, NT_FILE, NT_FPREGSET = 1, 6, 0x46494C45, 2
PT_LOAD, PT_NOTE, ET_CORE = 1, 4, 4
RIP_OFFSET = 112 + 16 * 8
AT_SYSINFO_EHDR, VDSO_BYTES = 33, 0x2000
SNAPSHOTS = 6


class Core:
    """A core file, as far as it is looked at here."""

    def __init__(self, path: Path) -> None:
        self.bytes = path.read_bytes()
        kind, machine = struct.unpack_from("<HH", self.bytes, 16)
        (at,) = struct.unpack_from("<Q", self.bytes, 32)
        size, count = struct.unpack_from("<HH", self.bytes, 54)
        self.is_core = self.bytes[:4] == b"\x7fELF" and kind == ET_CORE and machine == 62
        self.segments = [struct.unpack_from("<IIQQQQQQ", self.bytes, at + number * size) for number in range(count)]

    def notes(self) -> list[tuple[int, bytes]]:
        _, _, offset, _, _, length, _, _ = next(s for s in self.segments if s[0] == PT_NOTE)
        found, at, end = [], offset, offset + length
        while at < end:
            name, size, kind = struct.unpack_from("<III", self.bytes, at)
            start = at + 12 + (name + 3 & ~3)
            found.append((kind, self.bytes[start : start + size]))
            at = start + (size + 3 & ~3)
        return found

    def of(self, kind: int) -> list[bytes]:
        return [data for each, data in self.notes() if each == kind]

    def text(self, address: int) -> bytes:
        """The text at an address, b"" when the file does not have it."""
        for kind, _, offset, start, _, length, _, _ in self.segments:
            if kind == PT_LOAD and start <= address < start + length:
                return self.bytes[offset + address - start : offset + length].split(b"\0", 1)[0]
        return b""


def captured(lab: Lab) -> tuple[Path, list[str]]:
    """An image of the program, and what it said: pid, and where its texts lie."""
    source = HERE / "image_core.c"
    subprocess.run(["cc", "-g", "-O0", "-o", PROGRAM, source, "-lpthread"], check=True)
    said = lab.dir / "said"
    made = lab.run("seen", PROGRAM, options=("--stdout", said, "--stderr", said))
    ok(made["event"] == "done" and until(lambda: said.exists() and b"\n" in said.read_bytes()), "the program runs", made)
    image, result = lab.dir / "image", {}
    until(lambda: result.update(last(native("snapshot", "--pod", lab.pod("seen"), "--image", image))) or result.get("exit") != 75, 20)
    ok(result.get("event") == "done", "an image is taken of it", result)
    return image, said.read_text().split()


def look(core: Core, words: list[str]) -> None:
    heap, data, shared = (int(word, 16) for word in words[1:])
    ok(core.is_core, "it is an ELF core of this machine")
    ok(core.text(heap) == b"on the heap", "the heap is there", core.text(heap))
    ok(core.text(heap + 1000)[:50] == b"h" * 50, "all of it")
    ok(core.text(data) == b"written later", "what was written into the program's data covers the file", core.text(data))
    ok(core.text(shared) == b"in shared memory", "shared memory is there", core.text(shared))
    statuses = core.of(NT_PRSTATUS)
    ok(len(statuses) == 2 == len(core.of(NT_FPREGSET)), "both threads have their registers", len(statuses))
    (pid,) = struct.unpack_from("<i", statuses[0], 32)
    ok(pid == int(words[0]), "the first is the leader", pid)
    (rip,) = struct.unpack_from("<Q", statuses[0], RIP_OFFSET)
    ok(any(s[0] == PT_LOAD and s[1] & 1 and s[3] <= rip < s[3] + s[5] for s in core.segments), "it stands in code that is there", hex(rip))
    ok(len(core.of(NT_AUXV)) == 1, "the auxiliary vector is there")
    ok(bytes(PROGRAM) in core.of(NT_FILE)[0], "the mapped files are named")


def gdb(path: Path) -> None:
    if not shutil.which("gdb"):
        print("# gdb is not here: the file was read by this test alone")
        return
    steps = [part for step in ("thread apply all bt", "frame function main", "print heap") for part in ("-ex", step)]
    seen = subprocess.run(["gdb", "-batch", "-nx", *steps, PROGRAM, path], capture_output=True, text=True, timeout=60).stdout
    ok("other (given=0x0)" in seen and "in main ()" in seen, "gdb shows where both threads stand", seen[-800:])
    ok('"on the heap"' in seen, "and what a variable held", seen[-400:])


def refused(image: Path, lab: Lab, pid: str) -> None:
    for words, code, options in (
        ("a process that the image does not have", "NOT_FOUND", ("--pid", 4711, "--out", lab.dir / "none")),
        ("a pid without a file", "USAGE", ("--pid", pid)),
        ("a file that is there already", "OS", ("--pid", pid, "--out", lab.dir / "said")),
    ):
        answer = last(native("image-core", "--image", image, *options))
        ok(answer.get("code") == code or (code == "OS" and answer["event"] == "failed"), f"refused: {words}", answer)
    ok(not (lab.dir / "none").exists(), "and leaves nothing behind")
    empty = last(native("image-core", "--image", lab.dir))
    ok(empty["event"] == "failed", "what is no image is refused", empty)


def place_in_vdso(core: Core) -> int:
    """How far behind the vDSO's start the leader stands; negative or large outside of it."""
    auxv = core.of(NT_AUXV)[0]
    entries = dict(struct.iter_unpack("<QQ", auxv[: len(auxv) // 16 * 16]))
    (rip,) = struct.unpack_from("<Q", core.of(NT_PRSTATUS)[0], RIP_OFFSET)
    return int(rip - entries[AT_SYSINFO_EHDR])


def readers_of_time(lab: Lab) -> None:
    """In the vDSO the machine's clock and the pod's offset are put together: a restore between the two would make the clock jump."""
    with scratch("time") as place:
        shutil.copy(NATIVE.parent / "victims" / "c_single", place)
        t = Trial(lab, place / "c_single")
        why, inside = t.start(), []
        for number in range(1, SNAPSHOTS + 1):
            path = lab.dir / f"time-{number}"
            why = why or t.snapshot(0, number)
            made = last(native("image-core", "--image", t.image(number), "--store", t.store, "--pid", "2", "--out", path))
            inside += [at for at in [place_in_vdso(Core(path)) if path.exists() else str(made)] if isinstance(at, str) or 0 <= at < VDSO_BYTES]
        why = why or t.verify(0)
    ok(not why and not inside, f"who reads the time without end is not captured while it does ({SNAPSHOTS} snapshots)", (why, inside))


def main() -> int:
    with Lab() as lab:
        readers_of_time(lab)
        image, words = captured(lab)
        listed = last(native("image-core", "--image", image))
        mine = [p for p in listed.get("processes", []) if p["pid"] == int(words[0])]
        ok(len(mine) == 1 and mine[0]["name"] == "image_core" and mine[0]["threads"] == 2, "its processes are listed", listed)
        path = lab.dir / "core"
        made = last(native("image-core", "--image", image, "--pid", words[0], "--out", path))
        ok(made.get("threads") == 2 and os.stat(path).st_mode & 0o777 == 0o600, "a core is made, for its owner alone", made)
        look(Core(path), words)
        gdb(path)
        refused(image, lab, words[0])
    return finish()


if __name__ == "__main__":
    sys.exit(main())
