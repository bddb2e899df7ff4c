"""Columns of the matrix in which the engine is killed: the pod must be as if nothing had been, verify, and be captured and brought back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

from pod_lab import NATIVE, last, native, until
from t_core_kill import Target, at_every_line, at_random
from t_victims import Trial

INSTANTS = 12
RESTORES = 6


class Quarry(Target):
    """A trial whose engine gets killed."""

    def __init__(self, t: Trial) -> None:
        self.trial, self.lab, self.name = t, t.lab, t.name
        self.pod, self.out, self.store = t.pod(0), t.out, t.store
        self.why = t.start()
        self.started, self.took_s, self.images = not self.why, 0.1, 0


def survives(q: Quarry) -> str:
    """It can still be captured; it verifies, and so does its image."""
    return q.trial.snapshot(0, 100) or q.trial.verify(0) or q.trial.restore(100, 1) or q.trial.verify(1)


def at_steps(t: Trial, _: random.Random) -> str:
    q = Quarry(t)
    if q.why:
        return q.why
    q.snapshot()
    return at_every_line(q) or survives(q)


def at_instants(t: Trial, rng: random.Random) -> str:
    q = Quarry(t)
    if q.why:
        return q.why
    q.snapshot()
    why, _ = at_random(q, rng, INSTANTS)
    return why or survives(q)


def in_restore(t: Trial, rng: random.Random) -> str:
    """Whatever is killed in a restore, and when: the pod stands or nothing is left of it, and the image still comes back."""
    why = t.start() or t.snapshot(0, 1, "--then", "kill") or t.ended(0)
    for number in range(1, RESTORES + 1):
        why = why or restore_killed(t, rng, number)
    last_one = RESTORES + 1
    return why or t.restore(1, last_one) or t.verify(last_one)


def restore_killed(t: Trial, rng: random.Random, number: int) -> str:
    pod, delay_s = t.pod(number), rng.uniform(0, 0.15)
    client = subprocess.Popen(
        [str(a) for a in (NATIVE, "restore", "--image", t.image(1), "--store", t.store, "--pod", pod)],
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        client.wait(delay_s)
    except subprocess.TimeoutExpired:
        kill_one([client.pid, *workers(client.pid, pod)], rng)
    client.wait(30)

    def settled() -> bool:
        answer = last(native("stat", "--pod", pod))
        return answer.get("state") in ("running", "ended") or answer.get("code") in ("NO_INPUT", "CONFLICT")

    if not until(settled, 20):
        return f"a restore killed after {delay_s * 1000:.1f} ms: {last(native('stat', '--pod', pod))}"
    native("kill", "--pod", pod)
    return ""


def kill_one(pids: list[int], rng: random.Random) -> None:
    try:
        os.kill(rng.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself in the meantime


def workers(client: int, pod: Path) -> list[int]:
    """Processes of the restore beside the client: those that carry its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != client:
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"restore" in words and str(pod).encode() in words:
                found.append(int(entry.name))
    return found
