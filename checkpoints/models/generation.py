"""Generation: a consistent checkpoint of a whole job; Snapshot: one pod's part; Replica: who holds a snapshot's image.

Invariants: one generation of a job at a time is taking or storing. `decision` is written once (null → go or abort) and
before anybody hears it. A complete generation has a digest for every pod, and had the replicas asked for at that time.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from clusteros.core.states import StateGraph
from jobs.models import Job, Run
from nodes.models import Node

GENERATION_GRAPH = StateGraph(
    "generation", "taking",
    {
        "taking": ["storing", "failed"],
        "storing": ["complete", "failed"],
        "complete": ["deleted"],
        "failed": ["deleted"],
        "deleted": [],
    },
)  # fmt: skip

SNAPSHOT_GRAPH = StateGraph(
    "snapshot", "asked",
    {
        "asked": ["prepared", "captured", "stored", "failed"],
        "prepared": ["captured", "stored", "failed"],
        "captured": ["stored", "failed"],
        "stored": [],
        "failed": [],
    },
)  # fmt: skip


class Generation(models.Model):
    GRAPH = GENERATION_GRAPH

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="generations")
    number = models.IntegerField()
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="generations")
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="children")
    epoch = models.IntegerField()
    state = models.CharField(max_length=20, choices=GENERATION_GRAPH.choices(), default=GENERATION_GRAPH.initial)
    pinned = models.BooleanField(default=False)
    cause = models.CharField(max_length=20, default="asked")
    """asked, interval, safety, hold, migration."""
    then = models.CharField(max_length=4, default="run")
    decision = models.CharField(max_length=5, null=True)
    reason = models.TextField(blank=True)
    code = models.CharField(max_length=20, blank=True)
    pause_ms = models.FloatField(null=True)
    took_ms = models.FloatField(null=True)
    bytes = models.BigIntegerField(default=0)
    bytes_new = models.BigIntegerField(default=0)
    ran_s = models.FloatField(default=0)
    warnings = models.JSONField(default=list)
    taken_at = models.DateTimeField(auto_now_add=True)
    deadline = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)
    certificate = models.JSONField(null=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="one_generation_per_number"),
            models.UniqueConstraint(
                fields=["job"], condition=models.Q(state__in=["taking", "storing"]), name="one_generation_at_a_time"
            ),
        ]

    def event_refs(self) -> dict[str, Any]:
        return {**self.job.event_refs(), "generation": self.number}


class Snapshot(models.Model):
    GRAPH = SNAPSHOT_GRAPH

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="snapshots")
    pod = models.IntegerField()
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=20, choices=SNAPSHOT_GRAPH.choices(), default=SNAPSHOT_GRAPH.initial)
    digest = models.CharField(max_length=64, blank=True, db_index=True)
    bytes = models.BigIntegerField(default=0)
    bytes_new = models.BigIntegerField(default=0)
    pause_ms = models.FloatField(null=True)
    took_ms = models.FloatField(null=True)
    log_marks = models.JSONField(default=dict)
    resources = models.JSONField(default=dict)
    """What the pod used, as its last heartbeat before the cut said (services/resources.py)."""
    code = models.CharField(max_length=20, blank=True)
    message = models.TextField(blank=True)

    class Meta:
        ordering = ["pod"]
        constraints = [models.UniqueConstraint(fields=["generation", "pod"], name="one_snapshot_per_pod")]

    def event_refs(self) -> dict[str, Any]:
        return {**self.generation.event_refs(), "pod": self.pod, "node": self.node.name}


class Replica(models.Model):
    """`node` holds (complete) or shall hold the whole closure of the image `digest`."""

    digest = models.CharField(max_length=64)
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="replicas")
    complete = models.BooleanField(default=False)
    since = models.DateTimeField(auto_now_add=True)
    failed_words = models.CharField(max_length=300, blank=True)
    in_inventory = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest", "node"], name="one_replica_per_node")]
        indexes = [models.Index(fields=["node", "complete"])]
