#!/usr/bin/env python3
"""MPI that first speaks after a restore: ranks that have only started are captured; they come back, in one pod or in three, and only then
connect with each other, open windows (remote and shared) and spawn processes. `t_mpi_lazy.py [openmpi|mpich]`.

COVERAGE: MPI: first connections, windows and spawned processes after a restore | captured | Open MPI and MPICH, in one pod and in three"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pod_lab import HERE, Lab, finish, last, native, ok, scratch, until
from t_core_cut import LAUNCH, PODS, Job, reorder
from t_core_more import Script

SOURCE = HERE / "programs" / "work" / "mpi_lazy.c"
# Spawned processes of Open MPI reach their parents by TCP only; MPICH 4.0 as Debian builds it cannot spawn, with or without a pod.
TOGETHER = {"openmpi": ("mpirun.openmpi --oversubscribe -np 4", "spawn"), "mpich": ("mpiexec.mpich -n 4", "no-spawn")}
# Open MPI 4.1 over TCP chooses UCX for windows, which then refuses, with or without a pod.
APART = {"openmpi": ["--mca", "osc", "^ucx"], "mpich": []}
GATE = "/tmp/stop"


class Connected(Script):
    """In a pod with a network: each of its pods has another hub."""

    def files(self) -> tuple[object, ...]:
        return (*super().files(), "--net", f"hub={self.lab.hub()},ip=10.77.0.1/16,gw=10.77.255.254")


def compiled(kind: str, place: Path) -> Path:
    program = place / f"lazy-{kind}"
    subprocess.run([LAUNCH[kind][0], "-O2", "-w", "-o", str(program), str(SOURCE)], check=True)
    return program


class Lazy(Job):
    def launch(self) -> list[str]:
        launcher, *rest = super().launch()
        return [launcher, *APART[self.kind], *rest]


def open_gate(pod: Path) -> None:
    native("exec", "--pod", pod, "--", "/usr/bin/touch", GATE)


def together(lab: Lab, kind: str, place: Path) -> str:
    """Four ranks in one pod."""
    launch, spawn = TOGETHER[kind]
    t = Connected(lab, f"together-{kind}", *shlex.split(launch), compiled(kind, place), GATE, spawn)
    why = t.start() or t.snapshot(0, 1, "--then", "kill") or t.ended(0) or t.restore(1, 1)
    if why:
        return why
    open_gate(t.pod(1))
    answer = last(native("wait", "--pod", t.pod(1), "--timeout", 50))
    return "" if answer.get("exit_status") == 0 and "OK" in t.output() else f"{answer} {t.output()}"


def apart(lab: Lab, kind: str) -> None:
    """Six ranks in three pods."""
    job = Lazy(lab, kind)
    shutil.copy(compiled(kind, lab.dir), job.program)
    ok(job.start(), f"{kind}: six ranks on three pods are there", job.log())
    ok(*reorder(job.cut(1), f"{kind}: they are captured before any spoke to another"))
    job.kill()
    ok(*reorder(job.restore(1), f"{kind}: they come back on a new network"))
    for k in range(PODS):
        open_gate(job.pod(k))
    right = until(lambda: job.log().strip().endswith("OK"), 60)
    ok(right, f"{kind}: now all connect with all and open windows", job.log())
    job.kill()


def main() -> int:
    with scratch("lazy") as place, Lab() as lab:
        for kind in sys.argv[1:] or LAUNCH:
            why = together(lab, kind, place)
            ok(not why, f"{kind}: four ranks in one pod connect, open windows{' and spawn' if TOGETHER[kind][1] == 'spawn' else ''} only after a restore", why)
            apart(lab, kind)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
