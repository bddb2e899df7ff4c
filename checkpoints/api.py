"""REST: generations of a job, rollback, hold; and the job itself, which shows both."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status

from checkpoints import services
from checkpoints.json import full_job_json, generation_json, resume_json
from checkpoints.models import Generation, Resume
from clusteros.core.idempotency import answer_once
from clusteros.core.paging import page
from clusteros.core.problems import invalid
from jobs.api import JobIn
from jobs.services import cancel_job, copy_job, find_job

router = Router(tags=["generations"])


class RollbackIn(Schema):
    generation: int
    placement: list[str] | dict[str, str] | None = None
    dry_run: bool = False
    safety: bool = True


class CopyIn(JobIn):
    """What shall be different; the rest is as it was. With `generation` the copy goes on from there, and only name,
    nodes, walltime_s, interval_s, keep, files_policy, priority and hold can differ."""

    generation: int | None = None
    dry_run: bool = False


class PinIn(Schema):
    pinned: bool


@router.get("/jobs/{job_id}")
def job(request: HttpRequest, job_id: str) -> Any:
    return full_job_json(find_job(request.user, job_id))


@router.delete("/jobs/{job_id}")
def cancel(request: HttpRequest, job_id: str) -> Any:
    return full_job_json(cancel_job(find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/hold")
def hold(request: HttpRequest, job_id: str) -> Any:
    """A running job is kept as a generation first and comes back from it when it is released."""
    return full_job_json(services.hold_job(find_job(request.user, job_id), acting_user=request.user))


@router.post("/jobs/{job_id}/copy", response={200: dict, 201: dict})
def copy(request: HttpRequest, job_id: str, payload: CopyIn) -> Any:
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
            return Status(200, services.plan_copy(found, wanted, changes.get("nodes")).as_json() | {"dry_run": True})
        make = partial(services.copy_from_generation, found, wanted, changes, acting_user=request.user)
    return Status(201, answer_once(request, lambda: full_job_json(make())))


def _changes(payload: CopyIn) -> dict[str, Any]:
    """What the body names, 0 for interval and walltime meaning none."""
    changes = payload.dict(exclude={"files", "generation", "dry_run"}, exclude_unset=True)
    return changes | {name: changes[name] or None for name in ("interval_s", "walltime_s") if name in changes}


@router.post("/jobs/{job_id}/generations", response={202: dict})
def take(request: HttpRequest, job_id: str) -> Any:
    """Begin a generation; it is complete when its state says so."""
    found = find_job(request.user, job_id)

    def effect() -> dict[str, Any]:
        return generation_json(services.take_generation(found, acting_user=request.user))

    return Status(202, answer_once(request, effect))


@router.get("/jobs/{job_id}/generations")
def generations(
    request: HttpRequest, job_id: str, limit: int = 200, cursor: str | None = None, deleted: bool = False
) -> Any:
    """Oldest first."""
    rows = Generation.objects.select_related("parent").prefetch_related("snapshots")
    rows = rows.filter(job=find_job(request.user, job_id))
    if not deleted:
        rows = rows.exclude(state="deleted")
    return page(rows, generation_json, key="number", limit=limit, cursor=cursor, newest_first=False)


@router.get("/jobs/{job_id}/generations/{number}")
def generation(request: HttpRequest, job_id: str, number: int) -> Any:
    return generation_json(services.find_generation(find_job(request.user, job_id), number), details=True)


@router.patch("/jobs/{job_id}/generations/{number}")
def pin(request: HttpRequest, job_id: str, number: int, payload: PinIn) -> Any:
    found = services.find_generation(find_job(request.user, job_id), number)
    return generation_json(services.pin_generation(found, payload.pinned, acting_user=request.user))


@router.delete("/jobs/{job_id}/generations/{number}")
def delete(request: HttpRequest, job_id: str, number: int) -> Any:
    found = services.find_generation(find_job(request.user, job_id), number)
    return generation_json(services.delete_generation(found, acting_user=request.user))


@router.post("/jobs/{job_id}/rollback", response={200: dict, 202: dict})
def rollback(request: HttpRequest, job_id: str, payload: RollbackIn) -> Any:
    """Bring the job back to a generation. dry_run: only say where it would run and what would be lost."""
    found = find_job(request.user, job_id)
    wanted = services.find_generation(found, payload.generation)
    plan = services.plan_resume(found, wanted, payload.placement)
    if payload.dry_run:
        return Status(200, plan.as_json() | {"dry_run": True})

    def effect() -> dict[str, Any]:
        begun = services.resume_run(
            found, wanted, cause="rollback", placement=payload.placement, safety=payload.safety,
            acting_user=request.user,
        )  # fmt: skip
        return {"resume": resume_json(begun), "plan": plan.as_json()}

    return Status(202, answer_once(request, effect))


@router.get("/jobs/{job_id}/resumes")
def resumes(request: HttpRequest, job_id: str, limit: int = 100) -> Any:
    """The ways back that the job went: rollbacks, recoveries, migrations; oldest first."""
    rows = Resume.objects.select_related("generation", "safety", "run").filter(job=find_job(request.user, job_id))
    return {"items": [resume_json(row) for row in rows.order_by("asked_at")[:limit]], "next": None}
