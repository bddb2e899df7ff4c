"""REST: what is asked and answered about jobs, as it stands in the OpenAPI document. Answers are checked against it."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Schema
from pydantic import Field

from clusteros.core.schemas import Moment, Sparse, Strict
from jobs.services.submit import DEFAULT_MEM_BYTES


class FileIn(Strict):
    path: str = Field(description="relative to the working directory", examples=["input.dat"])
    data: str = Field(description="base64", examples=["aGVsbG8K"])
    executable: bool = False


class JobIn(Schema):
    """Exactly one of command and script."""

    model_config = {"extra": "forbid", "strict": True, "json_schema_extra": {"examples": [
        {"name": "heat", "command": ["mpirun", "./heat", "city.png"], "pods": 3, "ranks_per_pod": 2, "interval_s": 30},
        {"script": "#!/bin/sh\necho hello from $(hostname)\n"},
    ]}}  # fmt: skip

    command: list[str] | None = None
    script: str | None = None
    name: str = ""
    pods: int = 1
    ranks_per_pod: int = 1
    cores_per_rank: int = 1
    mem_bytes: int = Field(DEFAULT_MEM_BYTES, description="of each pod")
    walltime_s: int | None = None
    env: dict[str, str] = {}
    workdir: str = ""
    interval_s: float | None = Field(None, description="seconds between generations; none are taken without it")
    keep: int = Field(5, description="how many of the last generations retention leaves")
    keep_every: int = Field(0, description="beside them those whose number is a multiple of it; 0: none")
    keep_per: str = Field("", description="and the first of every hour or day", examples=["hour"])
    files: list[FileIn] = []
    files_policy: str = "restore"
    placement: str = Field("spread", description="spread or pack")
    nodes: list[str] = Field([], description="pod 0, 1, … shall run there, round and round")
    queue: str = "default"
    priority: int = 0
    hold: bool = False


class ArrayIn(JobIn):
    array: str = Field(description="indexes: 0-9, 1-99:2, 3,5,8", examples=["0-9"])


class SignalIn(Strict):
    signal: str | int = Field(examples=["TERM"])


class ExecIn(Strict):
    argv: list[str] = Field(examples=[["ps", "ax"]])
    pod: int = 0
    timeout_s: float = 60


class CopiedFrom(Schema):
    job: int
    generation: int | None


class JobOut(Schema):
    id: str
    number: int = Field(examples=[12])
    name: str
    owner: str
    state: str = Field(examples=["running"])
    command: list[str] | None
    script: str | None
    pods: int
    ranks_per_pod: int
    cores_per_rank: int
    mem_bytes: int
    walltime_s: int | None
    env: dict[str, str]
    workdir: str
    interval_s: float | None
    keep: int
    keep_every: int
    keep_per: str
    files_policy: str
    placement: str
    nodes: dict[str, str]
    queue: str
    priority: int
    submitted_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    exit_status: int | None
    reason: str
    waiting_because: str
    checkpointable: bool | None
    obstacles: list[Any]
    epoch: int
    restarts: int
    resume_from: int | None
    copied_from: CopiedFrom | None
    array: int | None
    array_index: int | None


class LastGeneration(Schema):
    number: int
    taken_at: Moment


class ListedJob(JobOut):
    last_generation: LastGeneration | None


ListedJobOrPart = Annotated[ListedJob | Sparse, Field(union_mode="left_to_right")]


class MadeJob(Schema):
    id: str
    number: int
    name: str
    state: str
    array_index: int | None = None


class MadeJobs(Schema):
    items: list[MadeJob]
    next: None = None
    array: int | None = Field(None, description="the number of the array, that of its first job")


class ForesightOut(Schema):
    dry_run: bool = True
    placement: dict[str, str]
    waits: str
    ahead: int = Field(description="jobs that wait before it")
    in_s: float | None = Field(description="seconds until it would start; null when nobody knows")
    words: str


class PodOut(Schema):
    pod: int
    index: int
    ip: str
    node: str
    state: str
    pids: int
    processes: list[Any]
    mem_bytes: int
    cpu_s: float
    exit_status: int | None
    code: str
    message: str
    lease_until: Moment | None
    checkpointable: bool | None
    obstacles: list[Any]
    started_at: Moment | None
    ended_at: Moment | None
    stdout_bytes: int
    stderr_bytes: int


class RunOut(Schema):
    id: str
    epoch: int
    state: str
    from_generation: int | None
    generation: int | None
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    exit_status: int | None
    reason: str
    pods: list[PodOut]


class CheckOut(Schema):
    checkpointable: bool | None = Field(description="null while nobody has looked")
    obstacles: list[Any] = Field(description="what cannot be captured, with process and descriptor")


class ExecOut(Schema):
    model_config = {"extra": "allow"}

    exit_status: int | None
    output: str


class EventOut(Schema):
    id: int
    at: Moment
    kind: str = Field(examples=["generation.complete"])
    words: str
    actor: str
    owner_id: int | None
    job: str | None
    job_number: int | None
    run: str | None
    pod: int | None
    generation: int | None
    node: str
    old: str
    new: str
    data: Any


class Events(Schema):
    items: list[EventOut]
    next: int | None = Field(description="the `after` of the next call")


class LogPiece(Schema):
    id: int
    epoch: int
    run: str
    pod: int
    stream: str
    offset: int = Field(description="where the piece begins in its stream")
    text: str
    at: Moment
    rank: int | None = Field(description="the rank that was asked for; else null")


class LogPage(Schema):
    items: list[LogPiece]
    next: int
    epoch: int
    state: str
    over: bool


class GivenFile(Schema):
    path: str
    size: int
    sha256: str
    executable: bool


class OutputFileOut(Schema):
    path: str
    pod: int
    epoch: int
    size: int
    sha256: str
    mtime: float
    uploaded: bool


class FilesPage(Schema):
    items: list[OutputFileOut]
    next: str | None = None
    given: list[GivenFile]


class PutFileOut(Schema):
    path: str
    size: int
    sha256: str
