"""What the submit form can begin with: a few ready-made jobs, or a former one ("edit and submit again")."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from jobs.models import Job
from jobs.services.submit import RETENTION

MPI_SCRIPT = """#!/bin/sh
# mpirun finds the pods of its job by itself: no host file, no number of ranks.
set -e
mpicc -O2 -o solver solver.c -lm
mpirun ./solver
"""
PYTHON_SCRIPT = """#!/usr/bin/env python3
import time

for step in range(600):
    print("step", step, flush=True)
    time.sleep(1)
"""
ARRAY_SCRIPT = """#!/bin/sh
# One job for each index of the array; each finds its own here.
echo "this is number $CLUSTEROS_ARRAY_INDEX on $(hostname)"
"""


@dataclass(frozen=True)
class Template:
    slug: str
    label: str
    words: str
    initial: dict[str, Any]


TEMPLATES = (
    Template("mpi", "MPI", "compile and run on three pods", {"kind": "script", "script": MPI_SCRIPT, "pods": 3, "ranks_per_pod": 2}),
    Template("python", "Python", "a script in one pod", {"kind": "script", "script": PYTHON_SCRIPT, "pods": 1}),
    Template("array", "Array", "once for each index", {"kind": "script", "script": ARRAY_SCRIPT, "array": "0-9", "interval": ""}),
)  # fmt: skip


def template_named(slug: str) -> dict[str, Any]:
    return next((each.initial for each in TEMPLATES if each.slug == slug), {})


def initial_of(job: Job) -> dict[str, Any]:
    """The form as it was filled in for `job`."""
    program = {"kind": "command", "command": shlex.join(job.command)} if job.command else {"kind": "script", "script": job.script}
    env = "\n".join(f"{key}={value}" for key, value in job.env.items() if key != "CLUSTEROS_ARRAY_INDEX")
    copied = {name: getattr(job, name) for name in ("name", "pods", "ranks_per_pod", "cores_per_rank", *RETENTION)}
    return program | copied | {
        "mem": _size(job.mem_bytes), "walltime": _span(job.walltime_s), "interval": _span(job.interval_s), "env": env,
    }  # fmt: skip


def _size(size_bytes: int) -> str:
    for unit, factor in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def _span(seconds: float | None) -> str:
    if not seconds:
        return ""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    return f"{seconds:g}s"
