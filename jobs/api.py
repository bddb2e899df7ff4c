"""REST: jobs. Views translate, services decide; a job that is not the user's does not exist (404)."""

from __future__ import annotations

import base64
import datetime
import time
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from ninja import Router, Status

from clusteros.core.events import as_json, events_after
from clusteros.core.idempotency import answer_once
from clusteros.core.paging import page, sparse, wanted_fields
from clusteros.core.problems import invalid, not_found
from clusteros.core.schemas import Page
from jobs import schemas, services
from jobs.blobs import READ_BYTES, open_blob
from jobs.json import job_json, output_json, run_json, with_last_generations
from jobs.models import JOB_GRAPH, Job, OutputFile, Run
from jobs.services.logs import STREAMS
from jobs.services.submit import JobRequest
from nodes.models import Command

router = Router(tags=["jobs"])
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
FILE_BODY = {"requestBody": {"required": True, "content": BYTES}}
FILE_ANSWER = {"responses": {200: {"description": "the bytes of the file", "content": BYTES}}}

LOG_ANSWER = {"responses": {200: {"description": "a page of the output, or with `raw` its bytes", "content": {
    "application/json": {"schema": {"$ref": "#/components/schemas/LogPage"}},
    "text/plain": {"schema": {"type": "string"}, "example": "block 1 of 40\n"},
}}}}  # fmt: skip


def request_of(payload: schemas.JobIn) -> JobRequest:
    """0 for interval and walltime means none."""
    values = payload.dict(exclude={"files", "script", "array"})
    values |= {name: values[name] or None for name in ("interval_s", "walltime_s")}
    return JobRequest(
        **values, script=payload.script or "",
        files={f.path: _decode(f) for f in payload.files},
        executables=frozenset(f.path for f in payload.files if f.executable),
    )


def _decode(item: schemas.FileIn) -> bytes:
    try:
        return base64.b64decode(item.data, validate=True)
    except ValueError:
        raise invalid("files", f"the data of {item.path[:60]!r} is not base64") from None


def jobs_of(request: HttpRequest) -> QuerySet[Job]:
    jobs = Job.objects.select_related("owner", "copied_from")
    return jobs if request.user.is_staff else jobs.filter(owner=request.user)  # type: ignore[union-attr, misc]


@router.post("/jobs", response={200: schemas.ForesightOut, 201: schemas.JobOut})
def submit(request: HttpRequest, payload: schemas.JobIn, dry_run: bool = False) -> Any:
    """Submit a job. With Idempotency-Key it is submitted once, however often it is sent. dry_run: only say where and
    when it would start."""
    wanted = request_of(payload)
    if dry_run:
        return Status(200, services.foresee(request.user, wanted).as_json())
    return Status(201, answer_once(request, lambda: job_json(services.submit_job(request.user, wanted))))


@router.post("/jobs/bulk", response={201: schemas.MadeJobs})
def submit_many(request: HttpRequest, payload: list[schemas.JobIn]) -> Any:
    """Up to 10,000 jobs at once: all or, when one is refused, none."""
    wanted = [request_of(item) for item in payload]
    return Status(201, answer_once(request, lambda: _made(services.submit_jobs(request.user, wanted))))


@router.post("/jobs/array", response={201: schemas.MadeJobs})
def submit_array(request: HttpRequest, payload: schemas.ArrayIn) -> Any:
    """The same job once for each index, which it finds in CLUSTEROS_ARRAY_INDEX."""
    wanted, indexes = request_of(payload), services.parse_indexes(payload.array)
    return Status(201, answer_once(request, lambda: _made(services.submit_array(request.user, wanted, indexes))))


def _made(jobs: list[Job]) -> dict[str, Any]:
    items = [{"id": str(j.pk), "number": j.number, "name": j.name, "state": j.state, "array_index": j.array_index} for j in jobs]
    return {"items": items, "next": None, "array": jobs[0].array}


@router.get("/jobs", response=Page[schemas.ListedJobOrPart])
def jobs(
    request: HttpRequest, state: str | None = None, owner: str | None = None, name: str | None = None, array: int | None = None,
    since: datetime.datetime | None = None, until: datetime.datetime | None = None, fields: str | None = None,
    limit: int = 50, cursor: str | None = None,
) -> Any:  # fmt: skip
    """Newest first. `state` may name several, separated by commas; `name` is part of the name; `since` and `until` bound
    the time of submission; `fields` names those that shall be answered, separated by commas."""
    only = wanted_fields(fields, schemas.ListedJob)
    rows = jobs_of(request).filter(**_bounds(owner, name, array, since, until))
    if state:
        rows = rows.filter(state__in=_states(state))
    answer = page(rows, None, key="number", limit=limit, cursor=cursor, all_as_json=with_last_generations)
    return sparse(answer, only)


def _states(text: str) -> list[str]:
    states = text.split(",")
    unknown = [name for name in states if name not in JOB_GRAPH.moves]
    if unknown:
        raise invalid("state", f"{unknown[0][:30]!r} is not one of {', '.join(JOB_GRAPH.states)}")
    return states


def _bounds(owner: str | None, name: str | None, array: int | None, since: Any, until: Any) -> dict[str, Any]:
    asked = {
        "owner__username": owner, "name__icontains": name, "array": array, "submitted_at__gte": _aware(since),
        "submitted_at__lt": _aware(until),
    }  # fmt: skip
    return {key: value for key, value in asked.items() if value is not None}


def _aware(moment: datetime.datetime | None) -> datetime.datetime | None:
    """A time without a zone is UTC."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


@router.post("/jobs/{job_id}/signal", response=schemas.JobOut)
def signal(request: HttpRequest, job_id: str, payload: schemas.SignalIn) -> Any:
    job = services.find_job(request.user, job_id)
    return job_json(services.signal_job(job, payload.signal, acting_user=request.user))


@router.post("/jobs/{job_id}/release", response=schemas.JobOut)
def release(request: HttpRequest, job_id: str) -> Any:
    return job_json(services.release_job(services.find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/suspend", response=schemas.JobOut)
def suspend(request: HttpRequest, job_id: str) -> Any:
    return job_json(services.suspend_job(services.find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/resume", response=schemas.JobOut)
def resume(request: HttpRequest, job_id: str) -> Any:
    return job_json(services.thaw_job(services.find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/exec", response=schemas.ExecOut)
def exec_in_job(request: HttpRequest, job_id: str, payload: schemas.ExecIn) -> Any:
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


@router.get("/jobs/{job_id}/check", response=schemas.CheckOut)
def check(request: HttpRequest, job_id: str) -> Any:
    """Can it be captured? What not, and why."""
    job = services.find_job(request.user, job_id)
    return {"checkpointable": job.checkpointable, "obstacles": job.obstacles}


@router.get("/jobs/{job_id}/runs", response=Page[schemas.RunOut])
def runs(request: HttpRequest, job_id: str, limit: int = 50, cursor: str | None = None) -> Any:
    job = services.find_job(request.user, job_id)
    return page(Run.objects.filter(job=job).prefetch_related("pods__node"), run_json, key="epoch", limit=limit, cursor=cursor)


@router.get("/jobs/{job_id}/events", response=schemas.Events)
def job_events(request: HttpRequest, job_id: str, after: int = 0, limit: int = 200) -> Any:
    job = services.find_job(request.user, job_id)
    if not 1 <= limit <= 1000:
        raise invalid("limit", "between 1 and 1000")
    found = events_after(_id(after), owner_id=None, job=job.pk, limit=limit)
    return {"items": [as_json(event) for event in found], "next": found[-1].id if len(found) == limit else None}


@router.get("/jobs/{job_id}/log", response=schemas.LogPage, openapi_extra=LOG_ANSWER)
def log(
    request: HttpRequest, job_id: str, pod: int | None = None, rank: int | None = None, stream: str | None = None,
    after: int = 0, epoch: int | None = None, raw: bool = False,
) -> Any:  # fmt: skip
    """Output in the order of its arrival; `next` is the `after` of the next call. raw: the bytes of one stream. rank: the lines
    of one rank alone, without their labels, where the launcher labels them (`mpirun --tag-output`, `mpiexec -prepend-rank`):
    the ranks of a pod share their launcher's pipe, so nobody else can tell them apart."""
    job = services.find_job(request.user, job_id)
    if stream is not None and stream not in STREAMS:
        raise invalid("stream", "stdout or stderr")
    if rank is not None and (raw or not 0 <= rank < job.pods * job.ranks_per_pod):
        raise invalid("rank", "not together with raw" if raw else f"the job has ranks 0 to {job.pods * job.ranks_per_pod - 1}")
    if raw:
        return StreamingHttpResponse(
            services.read_stream(job, pod or 0, stream or "stdout"), content_type="text/plain; charset=utf-8"
        )
    items, last = services.read_log(job, after=_id(after), pod=pod, stream=stream, epoch=epoch, rank=rank)
    return {"items": items, "next": last, "epoch": job.epoch, "state": job.state, "over": job.over}


@router.get("/jobs/{job_id}/files", response=schemas.FilesPage)
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


@router.get("/jobs/{job_id}/files/{path:path}", openapi_extra=FILE_ANSWER)
def file(request: HttpRequest, job_id: str, path: str, pod: int | None = None) -> Any:
    """The content of a file that the job left (pod: when several pods left one of that name)."""
    job = services.find_job(request.user, job_id)
    rows = OutputFile.objects.filter(run__job=job, run__epoch=job.epoch, path=path, uploaded=True).order_by("pod")
    row = rows.first() if pod is None else rows.filter(pod=pod).first()
    if row is None:
        raise not_found(f"file {path[:100]!r} of job {job.number}")
    name = path.rsplit("/", 1)[-1]
    return FileResponse(open_blob(row.sha256), as_attachment=True, filename=name)


@router.put("/jobs/{job_id}/files/{path:path}", response=schemas.PutFileOut, openapi_extra=FILE_BODY)
def put_file(request: HttpRequest, job_id: str, path: str, executable: bool = False) -> Any:
    """Add a file to a job that has not started (submit it with hold, put files, release)."""
    job = services.find_job(request.user, job_id)
    row = services.put_job_file(job, path, _body(request), executable=executable)
    return {"path": row.path, "size": row.size_bytes, "sha256": row.sha256}


def _id(after: int) -> int:
    return max(0, min(after, 1 << 62))


def _body(request: HttpRequest) -> Iterator[bytes]:
    while chunk := request.read(READ_BYTES):
        yield chunk
