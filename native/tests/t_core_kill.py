#!/usr/bin/env python3
"""The engine is killed at every line of its journal and at random instants of a snapshot (seeded, the seed is printed): each time the pod is
undone by its keeper, runs on, can be captured, and in the end verifies that it saw nothing. `t_core_kill.py [SEED [ROUNDS]]`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pod_lab import NATIVE, Lab, finish, last, native, ok, scratch, until

VICTIMS = ("c_busy", "c_threads", "c_tree", "c_pages")


@contextmanager
def going_first() -> Iterator[None]:
    """The engine goes before everything else while the job stands: whoever wants to kill it then must go before it."""
    allowed = os.geteuid() == 0
    if allowed:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(2))
    try:
        yield
    finally:
        if allowed:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Target:
    def __init__(self, lab: Lab, name: str, place: Path) -> None:
        self.lab, self.name = lab, name
        self.pod, self.out, self.store = lab.pod(name), lab.dir / f"{name}.out", lab.dir / "store"
        shutil.copy(NATIVE.parent / "victims" / name, place)
        answer = last(
            native("run", "--pod", self.pod, "--uid", 1000, "--gid", 1000, "--stdout", self.out, "--stderr", self.out, "--", place / name)
        )
        self.started = answer["event"] == "done" and until(lambda: "ready" in self.out.read_text(), 20)
        self.took_s, self.images = 0.1, 0

    def command(self) -> list[str]:
        self.images += 1
        image = self.lab.dir / f"{self.name}-{self.images}"
        return [str(a) for a in (NATIVE, "snapshot", "--pod", self.pod, "--image", image, "--store", self.store)]

    def snapshot(self) -> dict[str, object]:
        answer: dict[str, object] = {}

        def done() -> bool:
            answer.clear()
            answer.update(last(native(*self.command()[1:])))
            return answer.get("exit") != 75

        until(done, 20)
        self.took_s = float(str(answer.get("took_ms", 100))) / 1000
        return answer

    def engine(self) -> int:
        try:
            pid = int((self.pod / "act").read_text().split()[0])
            return pid if b"--direct" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
        except (OSError, IndexError, ValueError):
            return 0

    def lines(self) -> int:
        try:
            return (self.pod / "journal").read_text().count("\n")
        except OSError:
            return 0

    def kill_when(self, condition) -> bool:  # type: ignore[no-untyped-def]
        """Start a snapshot, kill the engine as soon as the condition holds; True if it was killed before its end."""
        client = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with going_first():
            killed = self.kill_one(client, condition)
        return client.wait(60) != 0 and killed

    def kill_one(self, client: subprocess.Popen[bytes], condition) -> bool:  # type: ignore[no-untyped-def]
        while not (pid := self.engine()) and client.poll() is None:
            time.sleep(0.0005)
        start = time.monotonic()
        while client.poll() is None and not condition(time.monotonic() - start):
            time.sleep(0.0001)
        killed = client.poll() is None
        if killed and pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                killed = False
        return killed

    def unharmed(self) -> str:
        settled = until(lambda: not (self.pod / "journal").exists() and not self.engine(), 20)
        stat = last(native("stat", "--pod", self.pod))
        if not settled or stat.get("state") != "running" or "FAIL" in self.out.read_text():
            return f"settled {settled}, {stat}, {self.out.read_text()}, {(self.pod / 'log' / 'keeper.log').read_text()[-600:]}"
        return ""

    def verify(self) -> str:
        native("kill", "--pod", self.pod, "--signal", 10)
        answer = last(native("wait", "--pod", self.pod, "--timeout", 60))
        good = answer.get("exit_status") == 0 and self.out.read_text().endswith("OK\n")
        return "" if good else f"{answer} {self.out.read_text()}"


LINES_MIN = 3
TRIES, TRIES_MIN_LINES = 2, 20  # the engine may be through before we look: the machine is shared


def at_line(t: Target, count: int) -> tuple[str, bool]:
    for _ in range(TRIES if count > LINES_MIN else TRIES_MIN_LINES):
        killed = t.kill_when(lambda _: t.lines() >= count)
        why = t.unharmed()
        if why or killed:
            return why, killed
    return "", False


def at_every_line(t: Target) -> str:
    for count in range(1, 60):
        why, killed = at_line(t, count)
        if why:
            return f"line {count}: {why}"
        if not killed:
            return "" if count > LINES_MIN else f"only {count - 1} lines were reached"
    return ""


def at_random(t: Target, rng: random.Random, rounds: int) -> tuple[str, int]:
    killed = 0
    for number in range(rounds):
        delay = rng.uniform(0, t.took_s)
        killed += t.kill_when(lambda passed: passed >= delay)  # noqa: B023
        why = t.unharmed()
        if why:
            return f"round {number}, after {delay * 1000:.2f} ms: {why}", killed
    return "", killed


def trial(lab: Lab, name: str, place: Path, rng: random.Random, rounds: int) -> None:
    t = Target(lab, name, place)
    if not ok(t.started, f"{name} starts", t.out.read_text()):
        return
    ok(t.snapshot().get("event") == "done", f"{name} is captured")
    why = at_every_line(t)
    ok(not why, f"{name}: the engine killed at each line of its journal leaves it running", why)
    why, killed = at_random(t, rng, rounds)
    ok(not why and killed >= min(rounds, 5), f"{name}: the engine killed at {killed} random instants leaves it running", why)
    answer = t.snapshot()
    ok(answer.get("event") == "done", f"{name} can be captured after all that", answer)
    why = t.verify()
    ok(not why, f"{name} saw nothing of it", why)


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    print(f"# seed {seed}", flush=True)
    with scratch("kill") as place, Lab() as lab:
        for name in VICTIMS:
            trial(lab, name, place, random.Random(f"{seed} {name}"), rounds)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
