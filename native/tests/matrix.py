#!/usr/bin/env python3
"""Every victim in every mode: `matrix.py` runs all cells and writes docs/coverage-matrix.md, `matrix.py --sample SECONDS [--seed N]` a seeded choice
of them, `matrix.py VICTIM…` the rows of these, `--mode NAME` one column; `--jobs N` cells side by side. TAP; victims and cells are counted at the end.
With `--record FILE` cells that are in the file are not run again, so that a run which was cut short can go on: with the same seed and engine only.

A cell is whole when the victim verifies itself in the end, refused when the engine names what the victim's source declares for that mode
(`MATRIX: <mode> refused <words>`), and differs when the victim notices just what it declares (`MATRIX: <mode> differs <words>`); everything
else is a failure. Modes are functions of a trial and a generator of random numbers
that answer with what went wrong, or nothing. Nothing is left behind."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import matrix_elsewhere
import matrix_killed
from huge_pages import USERS_GROUP, huge_pages, pages_of
from matrix_user import rootless
from pod_lab import HERE, NATIVE, Lab, finish, last, native, ok, scratch
from t_pod_user import NOBODY
from t_victims import BUILD, Trial, whole_life

GENERATIONS = 5
RESULT = HERE.parent.parent / "docs" / "coverage-matrix.md"
KINDS = {"whole": "whole", "refused": "refused by name", "differs": "as declared"}
Mode = Callable[[Trial, random.Random], str]


def once(t: Trial, _: random.Random) -> str:
    return whole_life(t)


def five_times(t: Trial, _: random.Random) -> str:
    """Captured, ended and brought back five times in a row, each image following the one before."""
    why = t.start()
    for number in range(1, GENERATIONS + 1):
        parent = ("--parent", t.image(number - 1)) if number > 1 else ()
        why = why or t.snapshot(number - 1, number, *parent, "--then", "kill") or t.ended(number - 1) or t.restore(number, number)
    return why or t.verify(GENERATIONS)


def runs_on(t: Trial, _: random.Random) -> str:
    """Captured five times while it runs on; then it verifies, and so does what the last image brings back."""
    why = t.start()
    for number in range(1, GENERATIONS + 1):
        parent = ("--parent", t.image(number - 1)) if number > 1 else ()
        why = why or t.snapshot(0, number, *parent)
    return why or t.verify(0) or t.restore(GENERATIONS, 1) or t.verify(1)


def twice(t: Trial, _: random.Random) -> str:
    """Two pods from one image, alive at the same time; each verifies."""
    why = t.start() or t.snapshot(0, 1, "--then", "kill") or t.ended(0) or t.restore(1, 1)
    other = Trial(t.lab, t.program)
    other.out = t.out.with_suffix(".out-2")
    return why or other.restore(1, 2) or t.verify(1) or other.verify(2)


MODES: dict[str, tuple[str, Mode]] = {
    "once": ("captured, runs on, comes back, is captured again, comes back", once),
    "five": ("five generations in a row, each ended and brought back", five_times),
    "runs-on": ("captured five times while it runs on", runs_on),
    "twice": ("two pods from one image at once", twice),
    "elsewhere": ("another host name, root, network, control group, process and IPC namespace, build of the kernel", matrix_elsewhere.elsewhere),
    "rootless": ("all of it as an ordinary user", rootless),
    "killed-steps": ("the engine is killed at every line of its journal", matrix_killed.at_steps),
    "killed-random": ("the engine is killed at random instants of a snapshot", matrix_killed.at_instants),
    "restore-killed": ("a restore is killed at random instants", matrix_killed.in_restore),
}


@dataclass
class Cell:
    victim: str
    mode: str
    result: str = ""  # whole, refused or what went wrong
    took_s: float = 0

    @property
    def good(self) -> bool:
        return self.result in KINDS


def declared(victim: str, mode: str) -> tuple[str, str]:
    """What the victim's source expects of this mode: (refused or differs, words); empty if to be whole."""
    text = (HERE / "victims" / f"{victim}.c").read_text()
    found = re.search(rf"MATRIX: {re.escape(mode)} (refused|differs) (.+?)(?: \*/)?$", text, re.M)
    return (found.group(1), found.group(2).strip()) if found else ("", "")


def judge(why: str, kind: str, words: str) -> str:
    if kind == "refused":
        return "refused" if re.search("UNSUPPORTED|BUSY", why) and words in why else f"should be refused with '{words}': {why or 'it was not'}"
    if kind == "differs" and why and words in why:
        return "differs"
    return why or "whole"


def run_cell(cell: Cell, place: Path, seed: int, end: float) -> Cell | None:
    """In a process of its own; nothing if the time is over."""
    if time.monotonic() > end:
        return None
    begun, why = time.monotonic(), "it has no end"
    try:
        pages, group = pages_of(HERE / "victims" / f"{cell.victim}.c"), NOBODY if cell.mode == "rootless" else USERS_GROUP
        with huge_pages(pages, group), Lab() as lab:
            trial = Trial(lab, place / cell.victim)
            why = MODES[cell.mode][1](trial, random.Random(f"{seed} {cell.victim} {cell.mode}"))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = repr(error)
    cell.result = judge(why, *declared(cell.victim, cell.mode))
    cell.took_s = round(time.monotonic() - begun, 1)
    return cell


def sentence(cell: Cell) -> str:
    return f"{cell.victim}, {cell.mode}: {MODES[cell.mode][0]}{f' ({KINDS[cell.result]})' if cell.result in ('refused', 'differs') else ''}"


def all_victims() -> list[str]:
    return [p.stem for p in sorted((HERE / "victims").glob("*.c"))]


def recorded(record: Path | None, head: dict[str, object]) -> list[Cell]:
    """Cells of an earlier run of this seed and this engine; the file is begun if it is not there."""
    if record is None:
        return []
    if not record.exists():
        record.write_text(json.dumps(head) + "\n")
    first, *lines = record.read_text().splitlines()
    if json.loads(first) != head:
        sys.exit(f"{record} was made by {first}, this is {json.dumps(head)}")
    return [Cell(**json.loads(line)) for line in lines]


def run_cells(cells: list[Cell], choice: argparse.Namespace, before: list[Cell]) -> list[Cell]:
    """As many of the cells as can be started within the time, in the order in which they end."""
    end = time.monotonic() + (choice.sample or float("inf"))
    known = {(cell.victim, cell.mode) for cell in before}
    done = [report(cell) for cell in before]
    wanted = [cell for cell in cells if (cell.victim, cell.mode) not in known]
    with scratch("matrix") as place, ProcessPoolExecutor(choice.jobs) as pool:
        for name in {cell.victim for cell in cells}:
            shutil.copy(BUILD / name, place)
        for ended in as_completed([pool.submit(run_cell, cell, place, choice.seed, end) for cell in wanted]):
            if cell := ended.result():
                done.append(report(cell))
                note(choice.record, cell)
    return done


def report(cell: Cell) -> Cell:
    ok(cell.good, sentence(cell), cell.result)
    return cell


def note(record: Path | None, cell: Cell) -> None:
    if record:
        with record.open("a") as out:
            out.write(json.dumps(asdict(cell)) + "\n")


def mark(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    return cell.result if cell.good else "FAILED"


def write_result(cells: list[Cell], head: dict[str, object]) -> None:
    found = {(c.victim, c.mode): c for c in cells}
    rows = [f"| `{v}` | " + " | ".join(mark(found.get((v, m))) for m in MODES) + " |" for v in all_victims()]
    words = [f"- **{name}**: {text}" for name, (text, _) in MODES.items()]
    lines = [
        "# The matrix: every victim in every mode",
        "",
        f"Written by `native/tests/matrix.py` (`make check-all`) on Linux {platform.release()}, {platform.machine()},",
        f"seed {head['seed']}, engine {head['engine']}: {counts(cells)}.",
        "A victim is a program that checks itself before and after (`native/tests/victims/`); *whole* means that it verified in the end,",
        "*refused* that the engine named what it cannot capture in that mode, as the victim's source declares, *differs* that the victim noticed",
        "what its source declares for that mode (and [coverage.md](coverage.md) tells).",
        "",
        *words,
        "",
        "| victim | " + " | ".join(MODES) + " |",
        "|---" * (len(MODES) + 1) + "|",
        *rows,
    ]
    RESULT.write_text("\n".join(lines) + "\n")


def counts(cells: list[Cell]) -> str:
    victims = len({c.victim for c in cells})
    kinds = ", ".join(f"{sum(c.result == kind for c in cells)} {words}" for kind, words in KINDS.items())
    return f"{victims} victims, {len(cells)} cells: {kinds}, {sum(not c.good for c in cells)} failed"


def engine() -> str:
    version = last(native("version"))["version"]
    return f"{version} ({NATIVE.name}, SHA-256 {hashlib.sha256(NATIVE.read_bytes()).hexdigest()[:16]})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("victims", nargs="*")
    parser.add_argument("--mode", choices=sorted(MODES), action="append")
    parser.add_argument("--sample", type=float, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--record", type=Path, metavar="FILE")
    choice = parser.parse_args()
    cells = [Cell(v, m) for m in choice.mode or MODES for v in choice.victims or all_victims()]
    if choice.sample:
        cells = [c for c in cells if c.mode != "once"]  # t_victims.py runs those
        random.Random(choice.seed).shuffle(cells)
    head: dict[str, object] = {"seed": choice.seed, "engine": engine()}
    print(f"# {json.dumps(head)}", flush=True)
    done = run_cells(cells, choice, recorded(choice.record, head))
    print(f"# {counts(done)}", flush=True)
    if not (choice.sample or choice.victims or choice.mode):
        write_result(done, head)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
