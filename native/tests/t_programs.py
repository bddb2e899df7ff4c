#!/usr/bin/env python3
"""Real programs with work before and after a restore: each is captured while it works and runs on, is captured again and ended, comes back in a fresh pod
and ends with the output of an undisturbed run. `t_programs.py NAME…` runs only those, `--all` every one (and installs nothing:
programs/install does), else a seeded choice of what is installed, within a time; what was not run is said, and why.

COVERAGE: program under gdb or strace | refused | it is traced by a debugger"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pod_lab import Lab, finish, last, native, ok, scratch, until
from programs.catalogue import PROGRAMS, WORK, Program
from t_core_cut import Act
from t_victims import Trial

SECONDS = 25
PATIENCE_S = 120
TOO_QUICK = "it had ended before it could be captured twice"
LIVES = 4


class Life(Trial):
    """One run of a program, in as many pods as it takes."""

    def __init__(self, lab: Lab, program: Program, name: str, place: Path) -> None:
        super().__init__(lab, Path("/") / name)
        words = program.command.format(work=place / "work", here=place / "here")
        self.command = shlex.split(words)

    def start(self) -> str:
        options = ("--uid", 1000, "--gid", 1000, "--workdir", "/job", *self.files())
        answer = last(native("run", "--pod", self.pod(0), *options, "--", *self.command))
        return "" if answer["event"] == "done" else f"does not start: {answer}"

    def steps(self) -> int:
        return sum(line.startswith("step ") for line in self.output().splitlines())

    def reach(self, incarnation: int, steps: int) -> str:
        def there() -> bool:
            return self.steps() >= steps or not self.runs(incarnation)

        until(there, PATIENCE_S)
        running = self.runs(incarnation)
        if not running and "\nend" in self.output():
            return TOO_QUICK
        return "" if self.steps() >= steps and running else f"{self.steps()} steps of {steps}, running: {running}\n{self.tail()}"

    def runs(self, incarnation: int) -> bool:
        return last(native("stat", "--pod", self.pod(incarnation))).get("state") == "running"

    def cut(self, steps: int, generation: int, *options: object) -> str:
        """Captured as soon as it has done so many steps: the engine waits at its barrier for that."""
        act = Act("snapshot", "--barrier", "--pod", self.pod(0), "--image", self.image(generation), "--store", self.store, *options)
        good = act.until("prepared")
        why = self.reach(0, steps)
        if good and not why:
            act.say("stop")
            good = act.until("captured")
            act.say("go")
            good = good and act.until("done")
        else:
            act.say("abort")
        act.process.communicate()
        if "has ended" in str(act.last.get("message", "")):
            return TOO_QUICK
        return why or ("" if good else f"snapshot: {act.last}")

    def come_back(self, generation: int, incarnation: int) -> str:
        answer = last(native("restore", "--image", self.image(generation), "--store", self.store, "--pod", self.pod(incarnation), *self.files()))
        return "" if answer["event"] == "done" else f"restore: {answer}"

    def end(self, incarnation: int) -> str:
        answer: dict[str, object] = {}
        for _ in range(PATIENCE_S // 30):
            answer = last(native("wait", "--pod", self.pod(incarnation), "--timeout", 30))
            if answer.get("exit") != 75:
                break
        good = answer.get("exit_status") == 0 and any(line.split()[0] == "end" for line in self.output().splitlines() if line)
        return "" if good else f"it does not end well: {answer}\n{self.tail()}"

    def tail(self) -> str:
        return self.output()[-1500:]


def difference(program: Program, alone: str, disturbed: str) -> str:
    first, second = alone.splitlines(), disturbed.splitlines()
    if program.unordered:
        first, second = sorted(first), sorted(second)
    if first == second:
        return ""
    at = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    return f"line {at} of {len(first)} and {len(second)} differs: {first[at : at + 2]} alone, {second[at : at + 2]} disturbed"


def life(lab: Lab, program: Program, place: Path, rng: random.Random) -> str:
    """Begun anew, with earlier instants, when the machine was quicker than those that were chosen: nothing is shown by that life."""
    why = ""
    for number in range(LIVES):
        why = one_life(lab, program, f"{program.name}-{number}", place, rng, program.steps // (number + 1))
        if why != TOO_QUICK:
            break
    return why


def one_life(lab: Lab, program: Program, name: str, place: Path, rng: random.Random, steps: int) -> str:
    alone, t = Life(lab, program, f"{name}-alone", place), Life(lab, program, name, place)
    one = 1 + rng.randrange(max(1, steps // 4))
    two = steps // 3 + rng.randrange(max(1, steps // 3))
    why = alone.start() or t.start() or t.reach(0, 1) or t.cut(one, 1)
    why = why or t.cut(two, 2, "--parent", t.image(1), "--then", "kill") or t.ended(0)
    why = why or t.come_back(2, 1) or t.end(1) or alone.end(0)
    return why or difference(program, alone.output(), t.output())


def prepare(program: Program, place: Path) -> str:
    """Its source and what is built of it, where pods can read them."""
    (place / "here").mkdir(parents=True, exist_ok=True)
    shutil.copytree(WORK, place / "work", dirs_exist_ok=True)
    if not program.build:
        return ""
    result = subprocess.run(shlex.split(program.build.format(work=place / "work", here=place / "here")), capture_output=True, text=True)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    return "" if result.returncode == 0 else f"build: {result.stderr[-1500:]}"


def run(program: Program, place: Path, seed: int) -> None:
    began = time.monotonic()
    with Lab() as lab:
        why = prepare(program, place) or life(lab, program, place, random.Random(f"{seed} {program.name}"))
    if program.refused:
        ok("UNSUPPORTED" in why and program.refused in why, f"{program.name} is refused: {program.refused}", why)
        return
    ok(not why, f"{program.name} is captured at work twice, comes back and ends as if nothing had been ({time.monotonic() - began:.1f} s)", why)


def debuggers(place: Path) -> None:
    """A traced program is refused by name, and nothing is touched."""
    for name, command in (("strace", "strace -f -o /dev/null sleep 1000"), ("gdb", "gdb -q -batch -nx -ex run --args sleep 1000")):
        if not shutil.which(name):
            print(f"# not run: {name} is not installed", flush=True)
            continue
        with Lab() as lab:
            lab.run("traced", "sh", "-c", f"{command}; sleep 1000", options=("--uid", 1000, "--gid", 1000))
            answer: dict[str, object] = {}

            def refused() -> bool:
                answer.clear()  # noqa: B023
                answer.update(last(native("check", "--pod", lab.pod("traced"))))  # noqa: B023
                return "traced" in str(answer)  # noqa: B023

            seen = until(refused, 20)
            taken = last(native("snapshot", "--pod", lab.pod("traced"), "--image", lab.dir / "image"))
            good = seen and taken.get("code") == "UNSUPPORTED" and "traced" in str(taken)
            ok(good, f"a program under {name} is refused by name", (answer, taken))


def choose(names: list[str], everything: bool, seed: int) -> list[Program]:
    chosen = [p for p in PROGRAMS if not names or p.name in names]
    if not everything and not names:
        random.Random(seed).shuffle(chosen)
    for p in chosen:
        if p.missing():
            print(f"# not run: {p.name} needs {', '.join(p.missing())} (native/tests/programs/install)", flush=True)
            if everything or names:
                ok(False, f"{p.name} is installed", p.missing())
    return [p for p in chosen if not p.missing()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    choice = parser.parse_args()
    print(f"# seed {choice.seed}", flush=True)
    end = time.monotonic() + (SECONDS if not choice.all and not choice.names else float("inf"))
    with scratch("programs") as place:
        for program in choose(choice.names, choice.all, choice.seed):
            if time.monotonic() > end:
                print(f"# not run: {program.name}: the time of a quick run is over", flush=True)
            else:
                run(program, place, choice.seed)
        if not choice.names:
            debuggers(place)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
