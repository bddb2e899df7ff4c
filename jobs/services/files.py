"""Files that come with a job and files that a job leaves behind.

Paths are relative to the working directory and clean: they become paths on nodes and names in downloads.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from django.db import transaction

from clusteros.core.problems import conflict, invalid
from jobs.blobs import SHA256, put_blob
from jobs.models import Job, JobFile, OutputFile, Pod
from nodes.models import Node

MAX_FILE_BYTES = 1 << 30
MAX_OUTPUT_BYTES = 64 << 30
MAX_FILES = 1000
MAX_OUTPUT_FILES = 20000


def check_path(path: str) -> str:
    """`path` when it is clean and relative; Problem INVALID otherwise."""
    parts = PurePosixPath(path).parts
    clean = bool(parts) and not path.startswith("/") and ".." not in parts and str(PurePosixPath(path)) == path
    if not clean or len(path) > 300 or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise invalid("path", f"{path[:60]!r} is not a clean path below the working directory")
    return path


def put_job_file(job: Job, path: str, chunks: Iterable[bytes], *, executable: bool = False) -> JobFile:
    """Add or replace a file of a job that has not started yet (submit it with hold, put files, release)."""
    if job.state not in ("queued", "held") or job.epoch:
        raise conflict(f"job {job.number} has started: its files are in its working directory now")
    return add_job_file(job, path, chunks, executable=executable)


def add_job_file(job: Job, path: str, chunks: Iterable[bytes], *, executable: bool = False) -> JobFile:
    check_path(path)
    if JobFile.objects.filter(job=job).count() >= MAX_FILES:
        raise invalid("files", f"more than {MAX_FILES} files: pack them into an archive")
    sha256, size_bytes = put_blob(chunks, max_bytes=MAX_FILE_BYTES)
    values = {"sha256": sha256, "size_bytes": size_bytes, "executable": executable}
    return JobFile.objects.update_or_create(job=job, path=path, defaults=values)[0]


@transaction.atomic
def record_output(node: Node, run_id: str, index: int, path: str, chunks: Iterable[bytes], sha256: str) -> OutputFile:
    """Keep an uploaded file of a pod's working directory; its digest must be the announced one."""
    pod = _pod_of(node, run_id, index)
    check_path(path)
    found, size_bytes = put_blob(chunks, max_bytes=MAX_OUTPUT_BYTES)
    if found != sha256:
        raise invalid("sha256", "the content is not what was announced")
    values = {"sha256": found, "size_bytes": size_bytes, "uploaded": True}
    return OutputFile.objects.update_or_create(run=pod.run, pod=index, path=path, defaults=values)[0]


def record_files(node: Node, opened: dict[str, Any]) -> None:
    """The list of files that a pod left: those not uploaded are listed too, with uploaded false."""
    body = opened["body"]
    pod = _pod_of(node, body["run"], int(body["pod"]))
    for item in body["files"][:MAX_OUTPUT_FILES]:
        path = check_path(str(item["path"]))
        if not SHA256.match(str(item["sha256"])):
            raise invalid("sha256", "not a SHA-256")
        values = {"sha256": item["sha256"], "size_bytes": int(item["size"]), "mtime": float(item.get("mtime") or 0)}
        row, made = OutputFile.objects.get_or_create(run=pod.run, pod=pod.index, path=path, defaults=values)
        if not made and row.sha256 == item["sha256"]:
            OutputFile.objects.filter(pk=row.pk).update(mtime=values["mtime"])
    Pod.objects.filter(pk=pod.pk).update(files_in=True)


def _pod_of(node: Node, run_id: str, index: int) -> Pod:
    pod = Pod.objects.select_related("run__job").filter(run_id=run_id, index=index, node=node).first()
    if pod is None:
        raise invalid("pod", "this node has no such pod")
    return pod
