#!/usr/bin/env python3
"""Every victim (victims/*.c) through the engine: it runs on unharmed after a snapshot; comes back from that image; is captured again
with the first image as parent and ended by it; comes back once more and verifies everything. `t_victims.py NAME…` runs only those."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from huge_pages import huge_pages, pages_of
from pod_lab import HERE, NATIVE, Lab, finish, last, native, ok, scratch, until

BUILD = NATIVE.parent / "victims"
USER = ("--uid", 1000, "--gid", 1000)


class Trial:
    """One victim; every step answers with what went wrong, or nothing."""

    def __init__(self, lab: Lab, program: Path) -> None:
        self.lab, self.program, self.name = lab, program, program.name
        self.out = lab.dir / f"{self.name}.out"
        self.store = lab.dir / "store"

    def image(self, generation: int) -> Path:
        return self.lab.dir / f"{self.name}-image-{generation}"

    def pod(self, incarnation: int) -> Path:
        return self.lab.pod(f"{self.name}-{incarnation}")

    def files(self) -> tuple[object, ...]:
        return ("--stdout", self.out, "--stderr", self.out)

    def start(self) -> str:
        answer = last(native("run", "--pod", self.pod(0), *USER, *self.files(), "--", self.program))
        ready = answer["event"] == "done" and until(lambda: "ready" in self.out.read_text(), 20)
        return "" if ready else f"does not start: {answer} {self.output()}"

    def snapshot(self, incarnation: int, generation: int, *options: object) -> str:
        command = ("snapshot", "--pod", self.pod(incarnation), "--image", self.image(generation), "--store", self.store, *options)
        answer: dict[str, object] = {}

        def done() -> bool:  # exit 75 is to be tried again
            answer.clear()
            answer.update(last(native(*command)))
            return answer.get("exit") != 75

        until(done, 20)
        return "" if answer.get("event") == "done" else f"snapshot: {answer}"

    def restore(self, generation: int, incarnation: int) -> str:
        self.out.write_text("")
        answer = last(
            native("restore", "--image", self.image(generation), "--store", self.store, "--pod", self.pod(incarnation), *self.files())
        )
        return "" if answer["event"] == "done" else f"restore: {answer}"

    def verify(self, incarnation: int) -> str:
        native("kill", "--pod", self.pod(incarnation), "--signal", 10)
        answer = last(native("wait", "--pod", self.pod(incarnation), "--timeout", 30))
        good = answer.get("exit_status") == 0 and self.output().endswith("OK\n")
        return "" if good else f"verify: {answer} {self.output()!r}"

    def ended(self, incarnation: int) -> str:
        answer = last(native("wait", "--pod", self.pod(incarnation), "--timeout", 30))
        return "" if answer.get("event") == "done" else f"it did not end with the image: {answer}"

    def output(self) -> str:
        return self.out.read_text() if self.out.exists() else ""


def whole_life(t: Trial) -> str:
    return (
        t.start()
        or t.snapshot(0, 1)
        or t.verify(0)
        or t.restore(1, 1)
        or t.snapshot(1, 2, "--parent", t.image(1), "--then", "kill")
        or t.ended(1)
        or t.restore(2, 2)
        or t.verify(2)
    )


def main() -> int:
    wanted = sys.argv[1:]
    programs = [BUILD / p.stem for p in sorted((HERE / "victims").glob("*.c")) if not wanted or p.stem in wanted]
    with scratch("victims") as place, Lab() as lab:
        for program in programs:
            shutil.copy(program, place)
            try:
                with huge_pages(pages_of(HERE / "victims" / f"{program.name}.c")):
                    why = whole_life(Trial(lab, place / program.name))
            except OSError as error:
                why = str(error)
            ok(not why, f"{program.name} runs on after a snapshot and comes back twice", why)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
