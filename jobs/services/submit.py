"""Submitting: what a user asks for is checked here, once, before there is a row.

`JobRequest` is the one description of a job at the door (REST, console); ranges are in LIMITS.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from django.db import transaction

from clusteros.accounts.services import profile_of
from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import Problem, invalid, not_found
from jobs.models import Job
from jobs.services.files import add_job_file, check_path
from jobs.services.placing import PossibleSizes

MIB = 1024**2
DEFAULT_MEM_BYTES = 512 * MIB
LIMITS: dict[str, tuple[float, float]] = {
    "pods": (1, 1024),
    "ranks_per_pod": (1, 4096),
    "cores_per_rank": (1, 4096),
    "mem_bytes": (16 * MIB, 1 << 50),
    "walltime_s": (1, 366 * 86400),
    "interval_s": (1, 366 * 86400),
    "keep": (1, 10000),
    "keep_every": (0, 10000),
    "priority": (-1000, 1000),
}
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}\Z")
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}\Z")
RETENTION = ("keep", "keep_every", "keep_per")
MAX_ENV_BYTES = 256 * 1024
MAX_SCRIPT_BYTES = MIB


@dataclass
class JobRequest:
    """What can be asked for. Exactly one of command and script. `files`: {path: content}."""

    command: list[str] | None = None
    script: str = ""
    name: str = ""
    pods: int = 1
    ranks_per_pod: int = 1
    cores_per_rank: int = 1
    mem_bytes: int = DEFAULT_MEM_BYTES
    walltime_s: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    interval_s: float | None = None
    keep: int = 5
    keep_every: int = 0
    keep_per: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    executables: frozenset[str] = frozenset()
    files_policy: str = "restore"
    placement: str = "spread"
    nodes: list[str] = field(default_factory=list)
    queue: str = "default"
    priority: int = 0
    hold: bool = False


def submit_job(owner: Any, request: JobRequest, *, acting_user: Any = None) -> Job:
    """Make the job: queued, or held when asked. Problem INVALID or NO_ROOM says what is not acceptable."""
    check_request(request)
    refuse_priority(request, acting_user or owner)
    with transaction.atomic():
        profile_of(owner)
        PossibleSizes().check(request)
        job = Job.objects.create(owner=owner, **row_values(request))
        for path, content in sorted(request.files.items()):
            add_job_file(job, path, [content], executable=path in request.executables)
        record_event(f"job.{job.state}", "submitted", actor=str(acting_user or owner), new=job.state, **job.event_refs())
        wake_scheduler()
    return job


def refuse_priority(request: JobRequest, user: Any) -> None:
    if request.priority > 0 and not user.is_staff:
        raise Problem("DENIED", "only an administrator can raise a job's priority above 0")


def check_request(request: JobRequest) -> None:
    _check_program(request)
    _check_numbers(request)
    _check_texts(request)
    _check_env(request.env)
    for path in request.files:
        check_path(path)


def _check_program(request: JobRequest) -> None:
    if bool(request.command) == bool(request.script):
        raise invalid("command", "give either a command (a list of words) or a script")
    if request.command and any("\0" in word for word in request.command):
        raise invalid("command", "a word contains a NUL")
    if request.command and not request.command[0].strip():
        raise invalid("command", "the first word, the program, is empty")
    if request.script and not request.script.startswith("#!"):
        raise invalid("script", "the first line must name the interpreter, as in #!/bin/sh")
    if len(request.script.encode()) > MAX_SCRIPT_BYTES or "\0" in request.script:
        raise invalid("script", "at most 1 MiB of text")


def _check_numbers(request: JobRequest) -> None:
    for name in LIMITS:
        value = getattr(request, name)
        if value is None and name in ("walltime_s", "interval_s"):
            continue
        _check_number(name, value)
    check_retention({name: getattr(request, name) for name in RETENTION})


def _check_number(name: str, value: Any) -> None:
    low, high = LIMITS[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise invalid(name, f"between {low:g} and {high:g}")


def check_retention(values: Mapping[str, Any]) -> None:
    """Which generations are kept; Problem INVALID."""
    for name in ("keep", "keep_every"):
        _check_number(name, values[name])
    if values["keep_per"] not in ("", "hour", "day"):
        raise invalid("keep_per", "hour, day, or nothing")


def _check_texts(request: JobRequest) -> None:
    if request.name and not NAME.match(request.name):
        raise invalid("name", "1 to 100 characters, none of them a control character")
    if request.files_policy not in ("restore", "keep", "refuse"):
        raise invalid("files_policy", "restore, keep or refuse")
    if request.placement not in ("spread", "pack"):
        raise invalid("placement", "spread or pack")
    if request.queue != "default":
        raise invalid("queue", f"there is no queue {request.queue!r}; there is: default")
    path = PurePosixPath(request.workdir or "/work")
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\0" in request.workdir:
        raise invalid("workdir", "an absolute path without '..', not / itself")


def _check_env(env: dict[str, str]) -> None:
    for key, value in env.items():
        if not VARIABLE.match(key) or "\0" in value:
            raise invalid("env", f"{key[:50]!r} is not a variable's name, or its value contains a NUL")
    if sum(len(key) + len(value) for key, value in env.items()) > MAX_ENV_BYTES:
        raise invalid("env", "more than 256 KiB")


def row_values(request: JobRequest) -> dict[str, Any]:
    copied = (
        "command", "script", "pods", "ranks_per_pod", "cores_per_rank", "mem_bytes", "walltime_s", "env", "interval_s",
        *RETENTION, "files_policy", "placement", "queue", "priority",
    )  # fmt: skip
    values = {name: getattr(request, name) for name in copied}
    values["command"] = request.command or None
    values["name"] = request.name or _default_name(request)
    values["workdir"] = request.workdir or "/work"
    values["wanted_nodes"] = nodes_by_pod(request.nodes, request.pods)
    values["state"] = "held" if request.hold else "queued"
    return values


def nodes_by_pod(names: list[str], pods: int) -> dict[str, str]:
    """{pod: node} of a list of nodes: pod i goes to the i-th, counted round and round. Keys are text, as in JSON."""
    return {str(pod): names[pod % len(names)] for pod in range(pods)} if names else {}


def _default_name(request: JobRequest) -> str:
    first = PurePosixPath(request.command[0]).name if request.command else "script"
    return "".join(c for c in first if c.isprintable())[:100] or "job"


def find_job(user: Any, job_id: str) -> Job:
    """By UUID or number, if it is the user's (or the user is an administrator); else Problem NOT_FOUND."""
    jobs = Job.objects.select_related("owner", "copied_from")
    if not user.is_staff:
        jobs = jobs.filter(owner=user)
    try:
        match = {"number": int(job_id)} if job_id.isdecimal() and len(job_id) < 19 else {"id": uuid.UUID(job_id)}
    except ValueError:
        raise not_found(f"job {job_id[:40]}") from None
    found = jobs.filter(**match).first()
    if found is None:
        raise not_found(f"job {job_id[:40]}")
    return found


def asked_again(job: Job, changes: Mapping[str, Any]) -> JobRequest:
    """What `job` was asked for, with `changes`; its files are not part of it."""
    values: dict[str, Any] = {
        name: getattr(job, name) for name in JobRequest.__dataclass_fields__ if hasattr(job, name) and name != "files"
    }
    values |= {"name": job.name, "nodes": list(job.wanted_nodes.values()), "hold": False}
    unknown = set(changes) - set(JobRequest.__dataclass_fields__)
    if unknown:
        raise invalid(sorted(unknown)[0], "not a property of a job")
    values |= changes
    if changes.get("command"):
        values["script"] = ""
    if changes.get("script"):
        values["command"] = None
    return JobRequest(**values)


@transaction.atomic
def copy_job(job: Job, changes: Mapping[str, Any], *, acting_user: Any = None) -> Job:
    """The same job once more from its start, with `changes` to what was asked; files come along."""
    made = submit_job(job.owner, asked_again(job, changes), acting_user=acting_user)
    Job.objects.filter(pk=made.pk).update(copied_from=job)
    made.copied_from = job
    copy_files(job, made)
    return made


def copy_files(job: Job, made: Job) -> None:
    """The files that came with `job`, but those that `made` has of that name."""
    for item in job.job_files.all():  # type: ignore[attr-defined]
        if not made.job_files.filter(path=item.path).exists():  # type: ignore[attr-defined]
            item.pk, item.job = None, made
            item._state.adding = True
            item.save()
