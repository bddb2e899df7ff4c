"""REST: what is asked and answered about generations and the ways back to them."""

from __future__ import annotations

from typing import Any

from ninja import Schema
from pydantic import Field

from clusteros.core.schemas import Moment, Strict
from jobs.schemas import JobIn, JobOut, LastGeneration


class RollbackIn(Strict):
    generation: int = Field(examples=[2])
    placement: list[str] | dict[str, str] | None = Field(None, description="nodes for pod 0, 1, …, or {pod: node}")
    dry_run: bool = False
    safety: bool = Field(True, description="keep the present as a generation first, where that is possible")


class CopyIn(JobIn):
    """What shall be different; the rest is as it was. With `generation` the copy goes on from there, and only name,
    nodes, walltime_s, interval_s, keep, files_policy, priority and hold can differ."""

    model_config = {"extra": "forbid", "strict": True, "json_schema_extra": {"examples": [{"generation": 2, "name": "what-if"}, {}]}}

    generation: int | None = None
    dry_run: bool = False


class PinIn(Strict):
    pinned: bool = Field(examples=[True])


class RetentionIn(Strict):
    keep: int | None = Field(None, examples=[5])
    keep_every: int | None = Field(None, description="0: no multiples")
    keep_per: str | None = Field(None, description="hour, day, or empty")
    dry_run: bool = Field(False, description="only say what the change would remove")


class RetentionOut(Schema):
    keep: int
    keep_every: int
    keep_per: str
    words: str = Field(examples=["the last 5 and every 10th"])
    removes: list[int] = Field(description="numbers of the generations that go, or would")
    dry_run: bool


class SnapshotOut(Schema):
    pod: int
    node: str
    state: str
    digest: str
    bytes: int
    bytes_new: int
    pause_ms: float | None
    took_ms: float | None
    code: str
    message: str
    log_marks: dict[str, int]
    replicas: list[str] = Field(description="nodes that hold it whole")


class GenerationOut(Schema):
    id: str
    number: int
    parent: int | None = Field(description="the generation that it grew from, as it is numbered in this job")
    state: str = Field(examples=["complete"])
    epoch: int
    pinned: bool
    cause: str
    reason: str
    code: str
    pause_ms: float | None
    took_ms: float | None
    bytes: int
    bytes_new: int
    taken_at: Moment
    completed_at: Moment | None
    warnings: list[str]
    replicas: int


class GenerationDetails(GenerationOut):
    snapshots: list[SnapshotOut]


class ResumeOut(Schema):
    id: str
    cause: str
    state: str
    generation: int | None
    safety_generation: int | None
    placement: dict[str, str]
    attempt: int
    reason: str
    asked_at: Moment
    ended_at: Moment | None
    epoch: int | None


class FullJob(JobOut):
    last_generation: LastGeneration | None
    resuming: ResumeOut | None
    last_resume: ResumeOut | None


class Check(Schema):
    name: str = Field(examples=["machine"])
    ok: bool
    words: str
    known: bool = Field(True, description="false: worth a look, and nothing that stands in the way")


class PlanOut(Schema):
    generation: int
    placement: dict[str, str]
    lost_s: float
    lost_log_bytes: int
    lost_lines: int | None = Field(description="null when there is too much output to count")
    safety_generation: bool
    checks: list[Check]
    possible: bool
    words: str
    dry_run: bool = False


class BegunOut(Schema):
    resume: ResumeOut
    plan: PlanOut


class CopyPlanOut(Schema):
    generation: int
    bytes: int
    waits: str = Field(description="why it would not start at once, or nothing")
    checks: list[Check]
    placement: dict[str, str]
    possible: bool
    dry_run: bool = True


class Resumes(Schema):
    items: list[ResumeOut]
    next: Any = None


class StoredOnNode(Schema):
    name: str
    state: str
    store_bytes: int
    disk_free_bytes: int
    images: int


class SharedPlaceOut(Schema):
    """A directory that nodes share, as a place for images."""

    directory: str
    id: str = Field(description="what its mark says; empty: nobody ever saw the mark")
    ok: bool = Field(description="some node sees it now")
    nodes: list[str] = Field(description="who sees it")
    images: int
    bytes: int
    free_bytes: int
    words: str = Field(description="who does not see it, and why")


class StoredByJob(Schema):
    number: int
    name: str
    owner: str
    state: str
    bytes: int
    generations: int
    pinned: int


class StoreOut(Schema):
    generations: int
    bytes: int
    pinned: int
    quota_bytes: int = Field(description="what one user's generations may take before further ones are refused; 0: no limit")
    shared: list[SharedPlaceOut]
    nodes: list[StoredOnNode]
    jobs: list[StoredByJob] = Field(description="the 50 that take most")


class Used(Schema):
    pods: int
    nodes: list[str]
    processes: int
    mem_bytes: int
    cpu_s: float
    ran_s: float = Field(description="seconds of walltime used")
    log_bytes: int


class ProcessKey(Schema):
    pod: int
    pid: int
    name: str


class DifferenceOut(Schema):
    then: Used | None = Field(description="null when it was not noted (a record made anew)")
    now: Used | None = Field(description="null when the job does not run")
    begun: list[ProcessKey] = Field(description="processes that were not there then")
    gone: list[ProcessKey] = Field(description="processes that are not there any more")


class StoredByGeneration(Schema):
    number: int
    state: str
    pinned: bool
    taken_at: Moment
    bytes: int
    bytes_new: int
    frees: int = Field(description="what its removal would give back on all nodes: what no other image needs")


class JobStoreOut(Schema):
    job: int
    name: str
    together: int = Field(description="what the removal of all of them would give back")
    words: str = Field(description="which nodes could not be asked and why, or nothing")
    generations: list[StoredByGeneration]


class Samples(Schema):
    at: list[float] = Field(description="Unix seconds")
    nodes_up: list[float]
    cores: list[float]
    cores_used: list[float]
    load: list[float]
    mem_bytes: list[float]
    mem_used_bytes: list[float]
    running: list[float]
    waiting: list[float]
    generations: list[float]
    store_bytes: list[float]


class NodeSamples(Schema):
    at: list[float] = Field(description="Unix seconds")
    load: list[float]
    mem_used_bytes: list[float]
    pods: list[float]
    cores_used: list[float]
    net_in_bytes_per_s: list[float]
    net_out_bytes_per_s: list[float]


class ProcessOut(Schema):
    pid: int
    ppid: int
    name: str
    exe: str
    state: str
    threads: int
    bytes: int


class PodProcesses(Schema):
    pod: int
    processes: list[ProcessOut]
    words: str = Field(description="why they could not be had, or nothing")


class ProcessesOut(Schema):
    items: list[PodProcesses]
    next: None = None
