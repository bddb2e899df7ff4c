"""Job: what a user asked for, and its state.

Invariants: `epoch` is the epoch of the newest run and only grows; `resume_from` (a generation's number) is set exactly
while a queued or held job shall come back from that generation instead of from its start.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import connection, models

from clusteros.core.states import StateGraph

JOB_GRAPH = StateGraph(
    "job", "queued",
    {
        "queued": ["starting", "held", "restoring", "failed", "cancelled"],
        "held": ["queued", "restoring", "cancelled"],
        "starting": ["running", "queued", "restoring", "held", "completed", "failed", "cancelled"],
        "running": ["suspended", "restoring", "queued", "held", "completed", "failed", "cancelled"],
        "suspended": ["running", "restoring", "queued", "held", "completed", "failed", "cancelled"],
        "restoring": ["running", "queued", "held", "completed", "failed", "cancelled"],
        "completed": ["restoring"],
        "failed": ["restoring"],
        "cancelled": ["restoring"],
    },
)  # fmt: skip
JOB_OVER = ("completed", "failed", "cancelled")


def next_job_number() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('jobs_job_number')")
        return int(cursor.fetchone()[0])


class Job(models.Model):
    GRAPH = JOB_GRAPH

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    number = models.BigIntegerField(unique=True, default=next_job_number)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    name = models.CharField(max_length=100)
    state = models.CharField(max_length=20, choices=JOB_GRAPH.choices(), default=JOB_GRAPH.initial)

    command = models.JSONField(null=True)
    """argv, a list; null when there is a script."""
    script = models.TextField(blank=True)
    pods = models.IntegerField(default=1)
    ranks_per_pod = models.IntegerField(default=1)
    cores_per_rank = models.IntegerField(default=1)
    mem_bytes = models.BigIntegerField()
    walltime_s = models.IntegerField(null=True)
    env = models.JSONField(default=dict)
    workdir = models.CharField(max_length=300, blank=True)
    interval_s = models.FloatField(null=True)
    keep = models.IntegerField(default=5)
    keep_every = models.IntegerField(default=0)
    """Beside the last `keep`: those whose number is a multiple of it; 0: none."""
    keep_per = models.CharField(max_length=10, blank=True)
    """And the first of every hour or day."""
    files_policy = models.CharField(max_length=10, default="restore")
    placement = models.CharField(max_length=10, default="spread")
    wanted_nodes = models.JSONField(default=dict)
    queue = models.CharField(max_length=50, default="default")
    priority = models.IntegerField(default=0)

    submitted_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    exit_status = models.IntegerField(null=True)
    reason = models.TextField(blank=True)
    """Why it failed or was cancelled, in words."""
    waiting_because = models.TextField(blank=True)
    checkpointable = models.BooleanField(null=True)
    obstacles = models.JSONField(default=list)
    epoch = models.IntegerField(default=0)
    restarts = models.IntegerField(default=0)
    """Recoveries since the last complete generation."""
    resume_from = models.IntegerField(null=True)
    resume_nodes = models.JSONField(default=dict)
    copied_from = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="copies")
    copied_generation = models.IntegerField(null=True)
    """With copied_from: the generation of that job from which this one grew; null for a copy from its start."""
    array = models.BigIntegerField(null=True)
    """The number of the first job of the array that this one is part of."""
    array_index = models.IntegerField(null=True)
    next_generation_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["state", "-priority", "number"]),
            models.Index(fields=["owner", "-number"]),
            models.Index(fields=["array", "number"], condition=models.Q(array__isnull=False), name="members_of_arrays"),
        ]

    def __str__(self) -> str:
        return f"job {self.number}"

    @property
    def pod_cores(self) -> int:
        return self.ranks_per_pod * self.cores_per_rank

    @property
    def over(self) -> bool:
        return self.state in JOB_OVER

    @property
    def current_run(self) -> Any:
        """The newest run, or None."""
        return self.runs.order_by("-epoch").first()  # type: ignore[attr-defined]

    def event_refs(self) -> dict[str, Any]:
        return {"job": self.id, "job_number": self.number, "owner_id": self.owner_id}  # type: ignore[attr-defined]


class JobFile(models.Model):
    """A file that came with the job; its content lies on the front end by digest (jobs/blobs.py)."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="job_files")
    path = models.CharField(max_length=300)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    executable = models.BooleanField(default=False)

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["job", "path"], name="one_file_per_path")]
