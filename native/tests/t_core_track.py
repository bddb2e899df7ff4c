#!/usr/bin/env python3
"""Incremental snapshots of a process that works on its memory at random: each generation, restored, holds every page as it was at its cut,
whatever became of the generations between: aborted, engine killed, taken without tracks, the process replaced by execve(2). Then the same on
from a restored pod, and with one that writes all of its memory, in small pages and in huge ones, which must be whole again after each. Seeded, the seed is printed. `t_core_track.py [SEED [ROUNDS]]`."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pod_lab import NATIVE, Lab, finish, last, native, ok, scratch, until

USER = ("--uid", 1000, "--gid", 1000)


class Chain:
    """One pod and the images that were taken of it."""

    def __init__(self, lab: Lab, chance: random.Random, program: Path) -> None:
        self.lab, self.chance, self.program = lab, chance, program
        self.store, self.images, self.pods, self.kept, self.busy = lab.dir / "store", 0, 0, 0, 0
        self.parent: Path | None = None
        self.much = False
        self.pod, self.out = self.place()

    def place(self) -> tuple[Path, Path]:
        self.pods += 1
        return self.lab.pod(f"{self.program.name}-{self.pods}"), self.lab.dir / f"{self.program.name}-{self.pods}.out"

    def image(self) -> Path:
        return self.lab.dir / f"{self.program.name}-image-{self.images}"

    def start(self, *arguments: str) -> bool:
        files = ("--stdout", self.out, "--stderr", self.out)
        answer = last(native("run", "--pod", self.pod, *USER, *files, "--", self.program, *(arguments or (self.chance.randrange(1 << 60),))))
        return answer["event"] == "done" and until(lambda: "ready" in self.out.read_text(), 30)

    def command(self, *options: object) -> list[str]:
        self.images += 1
        image = self.image()
        parent = ("--parent", self.parent) if self.parent else ()
        return [str(a) for a in ("snapshot", "--pod", self.pod, "--image", image, "--store", self.store, *parent, *options)]

    def take(self, *options: object) -> str:
        answer: dict[str, object] = {}

        def done() -> bool:  # exit 75 is to be tried again
            answer.clear()
            answer.update(last(native(*self.command(*options))))
            self.busy += answer.get("exit") == 75
            return answer.get("exit") != 75

        until(done, 20)
        if answer.get("event") != "done":
            return f"snapshot: {answer}"
        self.parent = self.image()
        self.kept += bool(answer["bytes_kept"])
        self.much = int(str(answer["bytes_kept"])) > 4 << 20
        return ""

    def abort(self) -> str:
        engine = subprocess.Popen([NATIVE, *self.command("--barrier")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        out, _ = engine.communicate("stop\nabort\n", timeout=60)
        return "" if "ABORTED" in out else f"no abort: {out}"

    def kill(self) -> str:
        engine = subprocess.Popen([NATIVE, *self.command()], stdout=subprocess.DEVNULL)
        time.sleep(self.chance.random() * 0.1)
        act = self.pod / "act"
        words = act.read_text().split() if act.exists() else []
        if words:
            os.kill(int(words[0]), 9)
        engine.wait(60)
        return "" if until(lambda: not act.exists(), 20) else "the act stays"

    def anew(self) -> str:
        self.out.write_text("")
        native("kill", "--pod", self.pod, "--signal", 12)
        return "" if until(lambda: "ready" in self.out.read_text(), 30) else f"no execve: {self.out.read_text()}"

    def restore(self, image: Path) -> tuple[Path, Path, str]:
        pod, out = self.place()
        files = ("--stdout", out, "--stderr", out)
        answer = last(native("restore", "--image", image, "--store", self.store, "--pod", pod, *files))
        return pod, out, "" if answer["event"] == "done" else f"restore: {answer}"

    def verify(self, pod: Path, out: Path) -> str:
        native("kill", "--pod", pod, "--signal", 10)
        answer = last(native("wait", "--pod", pod, "--timeout", 30))
        good = answer.get("exit_status") == 0 and out.read_text().endswith("OK\n")
        return "" if good else f"verify: {answer} {out.read_text()!r}"

    def check(self) -> str:
        if not self.parent:
            return ""
        pod, out, why = self.restore(self.parent)
        return why or self.verify(pod, out)


def generation(c: Chain) -> str:
    between = c.chance.choice([c.abort, c.kill, c.anew, lambda: c.take("--live", "off"), None, None, None, None])
    why = between() if between else ""
    time.sleep(c.chance.random() * 0.1)
    return why or c.take() or (c.check() if c.chance.random() < 0.5 else "")


def chain(c: Chain, rounds: int) -> str:
    for number in range(rounds):
        if why := generation(c):
            return f"generation {number}: {why}"
    return c.check()


def settles(c: Chain) -> str:
    """Of a process that writes everything nothing is watched; some generations after it has calmed down it is again. The generations until then."""
    for _ in range(5):
        if why := c.take():
            return why
        if c.much:
            return "pages were taken over from a parent, of which none is left"
        time.sleep(0.1)
    native("kill", "--pod", c.pod, "--signal", 12)
    for number in range(1, 15):
        if why := c.take() or (c.check() if number % 4 == 0 else ""):
            return why
        if c.much:
            return c.check() if number > 4 else f"it was watched all the time ({number})"
    return "it is never watched again"


def huge_kib(c: Chain) -> int:
    """Of the program's memory, in huge pages."""
    pid = last(native("pid", "--pod", c.pod, 2, "--inside"))["pid"]
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))


def stays_huge(c: Chain) -> str:
    """Copies make huge pages small; the next pause finds them whole, although all of them were written meanwhile."""
    before = huge_kib(c)
    if before < 90 << 10:
        return f"no huge pages to begin with: {before} KiB"
    for number in range(3):
        if why := c.take():
            return why
        if not until(lambda: huge_kib(c) >= before, 20):
            return f"after generation {number}: {huge_kib(c)} KiB of {before}"
    return c.check()


def writer(lab: Lab, place: Path) -> None:
    c = Chain(lab, random.Random(0), place / "c_writer")
    shutil.copy(NATIVE.parent / "victims" / "c_writer", place)
    ok(c.start(), "a process that writes everything starts")
    why = settles(c) or c.verify(c.pod, c.out)
    ok(not why, "it is left alone until it has calmed down, and its pages are right", why)
    shutil.copy(NATIVE.parent / "victims" / "c_writer", place / "c_huge")
    big = Chain(lab, random.Random(1), place / "c_huge")
    ok(big.start("huge"), "one with huge pages starts")
    why = stays_huge(big) or big.verify(big.pod, big.out)
    ok(not why, "its huge pages are whole again after each generation, and right", why)


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    print(f"# seed {seed}")
    with scratch("track") as place, Lab() as lab:
        c = Chain(lab, random.Random(seed), place / "c_pages")
        shutil.copy(NATIVE.parent / "victims" / "c_pages", place)
        ok(c.start(), "the process starts")
        why = chain(c, rounds)
        ok(not why, f"{rounds} generations hold every page", why)
        ok(c.kept > 0 and c.busy <= 2, f"and {c.kept} of them took pages over from the one before; {c.busy} tried again")
        why = c.verify(c.pod, c.out)
        ok(not why, "the process saw nothing of it", why)
        c.kept = 0
        c.pod, c.out, why = c.restore(c.parent or Path())
        why = why or chain(c, rounds // 2)
        extra = 0
        while not why and c.kept == 0 and extra < rounds:  # by chance each of them was one that must be whole
            why, extra = chain(c, 1), extra + 1
        ok(not why and c.kept > 0, f"{rounds // 2 + extra} more of the pod that came back, {c.kept} with pages taken over", why)
        writer(lab, place)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
