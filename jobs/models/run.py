"""Run: one incarnation of a job, and Pod: the part of it on one node.

Invariants: (job, epoch) is unique; only the run with the job's epoch may act. A pod's `lease_until` is never earlier
than the instant at which its keeper will freeze it: nothing of it runs later than that without a new lease from us.
`stdout_bytes`/`stderr_bytes` are where its streams are known without a gap, counted in the job's stream.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connection, models

from clusteros.core.states import StateGraph
from jobs.models.job import Job
from nodes.models import Node

RUN_GRAPH = StateGraph(
    "run", "starting",
    {
        "starting": ["running", "ended"],
        "running": ["ended"],
        "ended": [],
    },
)  # fmt: skip

POD_GRAPH = StateGraph(
    "pod", "placed",
    {
        "placed": ["starting", "running", "suspended", "frozen", "ended", "failed", "lost"],
        "starting": ["running", "suspended", "frozen", "ended", "failed", "lost"],
        "running": ["suspended", "frozen", "ended", "failed", "lost"],
        "frozen": ["running", "suspended", "ended", "failed", "lost"],
        "suspended": ["running", "frozen", "ended", "failed", "lost"],
        "lost": ["running", "frozen", "suspended", "ended", "failed"],
        "ended": [],
        "failed": [],
    },
)  # fmt: skip
POD_LIVE = ("placed", "starting", "running", "frozen", "suspended")


def next_network() -> int:
    """A network number (VXLAN's 24 bits, RFC 7348) that no other run has: what a node that was cut off still sends for an
    older run of the same job, with the same addresses and sequence numbers, must never reach the newer one.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('jobs_run_network')")
        return int(cursor.fetchone()[0])


class Run(models.Model):
    GRAPH = RUN_GRAPH

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="runs")
    epoch = models.IntegerField()
    network = models.IntegerField(default=next_network)
    state = models.CharField(max_length=20, choices=RUN_GRAPH.choices(), default=RUN_GRAPH.initial)
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="children")
    """The run from one of whose generations this one grew."""
    from_generation = models.IntegerField(null=True)
    log_marks = models.JSONField(default=dict)
    """{pod: {stdout, stderr}}: where its streams begin, in the job's stream."""
    base_s = models.FloatField(default=0)
    """Seconds of walltime that the job had used when this run began."""
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    command_ended_at = models.FloatField(null=True)
    """By the clock of pod 0's node (Unix): the command is over, the verdict is not yet in."""
    command_noted_at = models.DateTimeField(null=True)
    exit_status = models.IntegerField(null=True)
    reason = models.TextField(blank=True)

    class Meta:
        ordering = ["epoch"]
        constraints = [models.UniqueConstraint(fields=["job", "epoch"], name="one_run_per_epoch")]

    def event_refs(self) -> dict[str, Any]:
        return {**self.job.event_refs(), "run": self.id}


class Pod(models.Model):
    GRAPH = POD_GRAPH

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="pods")
    index = models.IntegerField()
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="pods")
    state = models.CharField(max_length=20, choices=POD_GRAPH.choices(), default=POD_GRAPH.initial)
    lease_until = models.DateTimeField(null=True)
    in_inventory = models.BooleanField(default=False)
    """A heartbeat has listed it: from then on a heartbeat without it means that it is gone."""
    seen_at = models.FloatField(default=0)
    """By its node's clock (Unix): the newest heartbeat that showed it alive."""
    exit_status = models.IntegerField(null=True)
    code = models.CharField(max_length=20, blank=True)
    message = models.TextField(blank=True)
    pids = models.IntegerField(default=0)
    processes = models.JSONField(default=list)
    mem_bytes = models.BigIntegerField(default=0)
    cpu_s = models.FloatField(default=0)
    checkpointable = models.BooleanField(null=True)
    obstacles = models.JSONField(default=list)
    stdout_bytes = models.BigIntegerField(default=0)
    stderr_bytes = models.BigIntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    files_in = models.BooleanField(default=False)

    class Meta:
        ordering = ["index"]
        constraints = [models.UniqueConstraint(fields=["run", "index"], name="one_pod_per_index")]
        indexes = [models.Index(fields=["node", "state"])]

    @property
    def live(self) -> bool:
        return self.state in POD_LIVE

    def event_refs(self) -> dict[str, Any]:
        return {**self.run.event_refs(), "pod": self.index, "node": self.node.name}
