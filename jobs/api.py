"""REST: jobs. Views translate, services decide; a job that is not the user's does not exist (404)."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from ninja import Router, Schema, Status
from pydantic import Field

from clusteros.core.events import as_json, events_after
from clusteros.core.idempotency import answer_once
from clusteros.core.paging import page
from clusteros.core.problems import invalid, not_found
from jobs import services
from jobs.blobs import READ_BYTES, open_blob
from jobs.json import job_json, output_json, run_json, with_last_generations
from jobs.models import JOB_GRAPH, Job, OutputFile, Run
from jobs.services.logs import STREAMS
from jobs.services.submit import DEFAULT_MEM_BYTES, JobRequest
from nodes.models import Command

router = Router(tags=["jobs"])
MAX_BULK = 200


class FileIn(Schema):
    path: str
    data: str = Field(description="base64")
    executable: bool = False


class JobIn(Schema):
    model_config = {"extra": "forbid"}

    command: list[str] | None = None
    script: str | None = None
    name: str = ""
    pods: int = 1
    ranks_per_pod: int = 1
    cores_per_rank: int = 1
    mem_bytes: int = DEFAULT_MEM_BYTES
    walltime_s: int | None = None
    env: dict[str, str] = {}
    workdir: str = ""
    interval_s: float | None = None
    keep: int = 5
    files: list[FileIn] = []
    files_policy: str = "restore"
    placement: str = "spread"
    nodes: list[str] = []
    queue: str = "default"
    priority: int = 0
    hold: bool = False


class SignalIn(Schema):
    signal: str | int


class ExecIn(Schema):
    argv: list[str]
    pod: int = 0
    timeout_s: float = 60


def request_of(payload: JobIn) -> JobRequest:
    """0 for interval and walltime means none."""
    values = payload.dict(exclude={"files", "script"})
    values |= {name: values[name] or None for name in ("interval_s", "walltime_s")}
    return JobRequest(
        **values, script=payload.script or "",
        files={f.path: _decode(f) for f in payload.files},
        executables=frozenset(f.path for f in payload.files if f.executable),
    )


def _decode(item: FileIn) -> bytes:
    try:
        return base64.b64decode(item.data, validate=True)
    except binascii.Error:
        raise invalid("files", f"the data of {item.path[:60]!r} is not base64") from None


def jobs_of(request: HttpRequest) -> QuerySet[Job]:
    jobs = Job.objects.select_related("owner", "copied_from")
    return jobs if request.user.is_staff else jobs.filter(owner=request.user)  # type: ignore[union-attr, misc]


@router.post("/jobs", response={201: dict})
def submit(request: HttpRequest, payload: JobIn) -> Any:
    """Submit a job. With Idempotency-Key it is submitted once, however often it is sent."""

    def effect() -> dict[str, Any]:
        return job_json(services.submit_job(request.user, request_of(payload)))

    return Status(201, answer_once(request, effect))


@router.post("/jobs/bulk", response={201: dict})
def submit_many(request: HttpRequest, payload: list[JobIn]) -> Any:
    """Several jobs at once: all or, when one is refused, none."""
    if not 1 <= len(payload) <= MAX_BULK:
        raise invalid("jobs", f"between 1 and {MAX_BULK}")

    def effect() -> dict[str, Any]:
        from django.db import transaction

        with transaction.atomic():
            made = [services.submit_job(request.user, request_of(item)) for item in payload]
        return {"items": [job_json(job) for job in made]}

    return Status(201, answer_once(request, effect))


@router.get("/jobs")
def jobs(
    request: HttpRequest, state: str | None = None, owner: str | None = None, limit: int = 50, cursor: str | None = None
) -> Any:
    """`state` may name several, separated by commas."""
    rows = jobs_of(request)
    if state:
        states = state.split(",")
        unknown = [name for name in states if name not in JOB_GRAPH.moves]
        if unknown:
            raise invalid("state", f"{unknown[0][:30]!r} is not one of {', '.join(JOB_GRAPH.states)}")
        rows = rows.filter(state__in=states)
    if owner:
        rows = rows.filter(owner__username=owner)
    return page(rows, None, key="number", limit=limit, cursor=cursor, all_as_json=with_last_generations)


@router.post("/jobs/{job_id}/signal")
def signal(request: HttpRequest, job_id: str, payload: SignalIn) -> Any:
    job = services.find_job(request.user, job_id)
    return job_json(services.signal_job(job, payload.signal, acting_user=request.user))


@router.post("/jobs/{job_id}/release")
def release(request: HttpRequest, job_id: str) -> Any:
    return job_json(services.release_job(services.find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/suspend")
def suspend(request: HttpRequest, job_id: str) -> Any:
    return job_json(services.suspend_job(services.find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/resume")
def resume(request: HttpRequest, job_id: str) -> Any:
    return job_json(services.thaw_job(services.find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/exec")
def exec_in_job(request: HttpRequest, job_id: str, payload: ExecIn) -> Any:
    """Run a command in a pod and wait for its output."""
    job = services.find_job(request.user, job_id)
    row = services.exec_in_job(
        job, payload.argv, pod=payload.pod, timeout_s=payload.timeout_s, acting_user=request.user
    )
    deadline = time.monotonic() + payload.timeout_s + 5
    while time.monotonic() < deadline:
        answer = Command.objects.values_list("body", flat=True).get(pk=row.pk).get("answer")
        if answer is not None:
            return answer
        time.sleep(0.1)
    raise invalid("timeout_s", "no answer came in that time")


@router.get("/jobs/{job_id}/check")
def check(request: HttpRequest, job_id: str) -> Any:
    """Can it be captured? What not, and why."""
    job = services.find_job(request.user, job_id)
    return {"checkpointable": job.checkpointable, "obstacles": job.obstacles}


@router.get("/jobs/{job_id}/runs")
def runs(request: HttpRequest, job_id: str, limit: int = 50, cursor: str | None = None) -> Any:
    job = services.find_job(request.user, job_id)
    return page(Run.objects.filter(job=job), run_json, key="epoch", limit=limit, cursor=cursor)


@router.get("/jobs/{job_id}/events")
def job_events(request: HttpRequest, job_id: str, after: int = 0, limit: int = 200) -> Any:
    job = services.find_job(request.user, job_id)
    if not 1 <= limit <= 1000:
        raise invalid("limit", "between 1 and 1000")
    found = events_after(max(0, after), owner_id=None, job=job.pk, limit=limit)
    return {"items": [as_json(event) for event in found], "next": None}


@router.get("/jobs/{job_id}/log")
def log(
    request: HttpRequest, job_id: str, pod: int | None = None, rank: int | None = None, stream: str | None = None,
    after: int = 0, epoch: int | None = None, raw: bool = False,
) -> Any:  # fmt: skip
    """Output in the order of its arrival; `next` is the `after` of the next call. raw: the bytes of one stream."""
    job = services.find_job(request.user, job_id)
    if stream is not None and stream not in STREAMS:
        raise invalid("stream", "stdout or stderr")
    if rank is not None:
        pod = rank // job.ranks_per_pod if pod is None else pod
    if raw:
        return StreamingHttpResponse(
            services.read_stream(job, pod or 0, stream or "stdout"), content_type="text/plain; charset=utf-8"
        )
    items, last = services.read_log(job, after=max(0, after), pod=pod, stream=stream, epoch=epoch)
    return {"items": items, "next": last, "epoch": job.epoch, "state": job.state, "over": job.over}


@router.get("/jobs/{job_id}/files")
def files(request: HttpRequest, job_id: str, limit: int = 500, cursor: str | None = None) -> Any:
    """Files that came with the job, and those that its newest run left in its working directory."""
    job = services.find_job(request.user, job_id)
    given = [
        {"path": f.path, "size": f.size_bytes, "sha256": f.sha256, "executable": f.executable}
        for f in job.job_files.all()  # type: ignore[attr-defined]
    ]
    rows = OutputFile.objects.filter(run__job=job, run__epoch=job.epoch).select_related("run")
    answer = page(rows, output_json, key="id", limit=limit, cursor=cursor, newest_first=False)
    return answer | {"given": given}


@router.get("/jobs/{job_id}/files/{path:path}")
def file(request: HttpRequest, job_id: str, path: str, pod: int | None = None) -> Any:
    """The content of a file that the job left (pod: when several pods left one of that name)."""
    job = services.find_job(request.user, job_id)
    rows = OutputFile.objects.filter(run__job=job, run__epoch=job.epoch, path=path, uploaded=True).order_by("pod")
    row = rows.first() if pod is None else rows.filter(pod=pod).first()
    if row is None:
        raise not_found(f"file {path[:100]!r} of job {job.number}")
    name = path.rsplit("/", 1)[-1]
    return FileResponse(open_blob(row.sha256), as_attachment=True, filename=name)


@router.put("/jobs/{job_id}/files/{path:path}")
def put_file(request: HttpRequest, job_id: str, path: str, executable: bool = False) -> Any:
    """Add a file to a job that has not started (submit it with hold, put files, release)."""
    job = services.find_job(request.user, job_id)
    row = services.put_job_file(job, path, _body(request), executable=executable)
    return {"path": row.path, "size": row.size_bytes, "sha256": row.sha256}


def _body(request: HttpRequest) -> Iterator[bytes]:
    while chunk := request.read(READ_BYTES):
        yield chunk
