"""REST: generations of a job, rollback, hold; and the job itself, which shows both."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Status

from checkpoints import schemas, services
from checkpoints.downloads import core_response, export_response
from checkpoints.json import full_job_json, generation_json, generations_json, resume_json
from checkpoints.models import Generation, Resume
from checkpoints.services.figures import KEEP_DAYS, NODE_KEEP_DAYS, read_node_samples, read_samples, store_figures
from checkpoints.services.freeing import job_store
from clusteros.core.etags import require_match, tagged
from clusteros.core.idempotency import answer_once
from clusteros.core.paging import page
from clusteros.core.problems import invalid, not_found
from clusteros.core.schemas import Page
from jobs.api import jobs_of
from jobs.services import cancel_job, copy_job, find_job
from nodes.services import get_node

CORE_ANSWER = {"responses": {200: {"description": "the core file", "content": {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}}}}  # fmt: skip
EXPORT_ANSWER = {"responses": {200: {"description": "the tar", "content": {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}}}}  # fmt: skip
router = Router(tags=["generations"])


@router.get("/store", response=schemas.StoreOut)
def store(request: HttpRequest) -> Any:
    """What the images take: on every node, and by your jobs (an administrator's: by all)."""
    return store_figures(jobs_of(request))


@router.get("/jobs/{job_id}/store", response=schemas.JobStoreOut)
def store_of_job(request: HttpRequest, job_id: str) -> Any:
    """What each generation of a job takes, and what its removal would give back on all nodes."""
    return job_store(find_job(request.user, job_id))


@router.get("/samples", response=schemas.Samples)
def samples(request: HttpRequest, hours: float = 1) -> Any:
    """The cluster's figures over the last hours, as columns of at most 240 means."""
    if not 0.01 <= hours <= 24 * KEEP_DAYS:
        raise invalid("hours", f"between 0.01 and {24 * KEEP_DAYS}")
    return read_samples(hours)


@router.get("/nodes/{name}/samples", response=schemas.NodeSamples)
def node_samples(request: HttpRequest, name: str, hours: float = 1) -> Any:
    """A node's figures over the last hours, as columns of at most 240 means."""
    if not 0.01 <= hours <= 24 * NODE_KEEP_DAYS:
        raise invalid("hours", f"between 0.01 and {24 * NODE_KEEP_DAYS}")
    return read_node_samples(get_node(name), hours)


@router.get("/jobs/{job_id}", response=schemas.FullJob)
def job(request: HttpRequest, response: HttpResponse, job_id: str) -> Any:
    """By number or id."""
    return tagged(response, full_job_json(find_job(request.user, job_id)))


@router.delete("/jobs/{job_id}", response=schemas.FullJob)
def cancel(request: HttpRequest, job_id: str) -> Any:
    """End it for good; its output and generations stay."""
    require_match(request, full_job_json(find_job(request.user, job_id)))
    return full_job_json(cancel_job(find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/hold", response=schemas.FullJob)
def hold(request: HttpRequest, job_id: str) -> Any:
    """A running job is kept as a generation first and comes back from it when it is released."""
    return full_job_json(services.hold_job(find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/copy", response={200: schemas.CopyPlanOut, 201: schemas.FullJob})
def copy(request: HttpRequest, job_id: str, payload: schemas.CopyIn) -> Any:
    """The same job once more, from its start or from a generation; with dry_run only where it would run."""
    found = find_job(request.user, job_id)
    changes = _changes(payload)
    if payload.generation is None:
        if payload.dry_run:
            raise invalid("dry_run", "for a copy from a generation; a copy from the start is a submission")
        make = partial(copy_job, found, changes, acting_user=request.user)
    else:
        wanted = services.find_generation(found, payload.generation)
        if payload.dry_run:
            plan = services.plan_copy(found, wanted, changes.get("nodes"))
            plan.ask_nodes(wanted, found.files_policy)
            return Status(200, plan.as_json() | {"dry_run": True})
        make = partial(services.copy_from_generation, found, wanted, changes, acting_user=request.user)
    return Status(201, answer_once(request, lambda: full_job_json(make())))


def _changes(payload: schemas.CopyIn) -> dict[str, Any]:
    """What the body names, 0 for interval and walltime meaning none."""
    changes = payload.dict(exclude={"files", "generation", "dry_run"}, exclude_unset=True)
    return changes | {name: changes[name] or None for name in ("interval_s", "walltime_s") if name in changes}


@router.post("/jobs/{job_id}/generations", response={202: schemas.GenerationOut})
def take(request: HttpRequest, job_id: str) -> Any:
    """Begin a generation; it is complete when its state says so."""
    found = find_job(request.user, job_id)

    def effect() -> dict[str, Any]:
        return generation_json(services.take_generation(found, acting_user=request.user))

    return Status(202, answer_once(request, effect))


@router.get("/jobs/{job_id}/generations", response=Page[schemas.GenerationOut])
def generations(
    request: HttpRequest, job_id: str, state: str | None = None, limit: int = 200, cursor: str | None = None, deleted: bool = False
) -> Any:
    """Oldest first; `parent` makes a tree of them."""
    rows = Generation.objects.select_related("parent").prefetch_related("snapshots")
    rows = rows.filter(job=find_job(request.user, job_id))
    if not deleted:
        rows = rows.exclude(state="deleted")
    if state:
        rows = rows.filter(state__in=state.split(","))
    return page(rows, None, key="number", limit=limit, cursor=cursor, newest_first=False, all_as_json=generations_json)


def _details(request: HttpRequest, job_id: str, number: int) -> tuple[Generation, dict[str, Any]]:
    if not 0 < number < 1 << 31:
        raise not_found(f"generation {number} of job {job_id[:40]}")
    found = services.find_generation(find_job(request.user, job_id), number)
    return found, generation_json(found, details=True)


@router.post("/jobs/{job_id}/retention", response=schemas.RetentionOut)
def retention(request: HttpRequest, job_id: str, payload: schemas.RetentionIn) -> Any:
    """Keep other generations from now on. dry_run: only say what that would remove."""
    changes = {name: value for name, value in payload.dict(exclude={"dry_run"}).items() if value is not None}
    return services.change_retention(find_job(request.user, job_id), changes, dry_run=payload.dry_run, acting_user=request.user)


@router.get("/jobs/{job_id}/generations/{number}", response=schemas.GenerationDetails)
def generation(request: HttpRequest, response: HttpResponse, job_id: str, number: int) -> Any:
    """With its snapshots, one for each pod, and who holds them."""
    return tagged(response, _details(request, job_id, number)[1])


@router.patch("/jobs/{job_id}/generations/{number}", response=schemas.GenerationDetails)
def pin(request: HttpRequest, response: HttpResponse, job_id: str, number: int, payload: schemas.PinIn) -> Any:
    """A pinned generation is kept whatever retention says."""
    found, present = _details(request, job_id, number)
    require_match(request, present)
    pinned = services.pin_generation(found, payload.pinned, acting_user=request.user)
    return tagged(response, generation_json(pinned, details=True))


@router.delete("/jobs/{job_id}/generations/{number}", response=schemas.GenerationDetails)
def delete(request: HttpRequest, job_id: str, number: int) -> Any:
    """Give it up for good; its images are removed where nobody else needs them."""
    found, present = _details(request, job_id, number)
    require_match(request, present)
    return generation_json(services.delete_generation(found, acting_user=request.user), details=True)


@router.get("/jobs/{job_id}/generations/{number}/processes", response=schemas.ProcessesOut)
def processes(request: HttpRequest, job_id: str, number: int) -> Any:
    """The processes that a generation holds, pod by pod."""
    return {"items": services.processes_of(_details(request, job_id, number)[0]), "next": None}


@router.get("/jobs/{job_id}/generations/{number}/difference", response=schemas.DifferenceOut)
def difference(request: HttpRequest, job_id: str, number: int) -> Any:
    """What the job used when it was taken, beside what it uses now, and the processes that came and went."""
    found = _details(request, job_id, number)[0]
    return services.difference_of(find_job(request.user, job_id), found).as_json()


@router.get("/jobs/{job_id}/generations/{number}/core", openapi_extra=CORE_ANSWER)
def core(request: HttpRequest, job_id: str, number: int, pid: int, pod: int = 0) -> Any:
    """A process as it was, as an ELF core: `gdb PROGRAM CORE` opens it."""
    found = _details(request, job_id, number)[0]
    return core_response(found, pod, pid)


@router.get("/jobs/{job_id}/generations/{number}/export", openapi_extra=EXPORT_ANSWER)
def export(request: HttpRequest, job_id: str, number: int) -> Any:
    """The whole generation as a tar: its signed certificate, and of each pod the manifest and all chunks, as the engine alone
    can open them again on any machine (the README in it says how). Its length is not known before its end: `end` is its last file."""
    return export_response(_details(request, job_id, number)[0])


@router.post("/jobs/{job_id}/rollback", response={200: schemas.PlanOut, 202: schemas.BegunOut})
def rollback(request: HttpRequest, job_id: str, payload: schemas.RollbackIn) -> Any:
    """Bring the job back to a generation. dry_run: only say where it would run and what would be lost."""
    found = find_job(request.user, job_id)
    wanted = services.find_generation(found, payload.generation)
    plan = services.plan_resume(found, wanted, payload.placement)
    if payload.dry_run:
        plan.ask_nodes(wanted, found.files_policy)
        return Status(200, plan.as_json() | {"dry_run": True})

    def effect() -> dict[str, Any]:
        begun = services.resume_run(
            found, wanted, cause="rollback", placement=payload.placement, safety=payload.safety,
            acting_user=request.user,
        )  # fmt: skip
        return {"resume": resume_json(begun), "plan": plan.as_json()}

    return Status(202, answer_once(request, effect))


@router.get("/jobs/{job_id}/resumes", response=schemas.Resumes)
def resumes(request: HttpRequest, job_id: str, limit: int = 100) -> Any:
    """The ways back that the job went: rollbacks, recoveries, migrations; oldest first."""
    rows = Resume.objects.select_related("generation", "safety", "run").filter(job=find_job(request.user, job_id))
    if not 1 <= limit <= 500:
        raise invalid("limit", "between 1 and 500")
    return {"items": [resume_json(row) for row in rows.order_by("asked_at")[:limit]], "next": None}
