"""Resume: a job on its way back to a generation, or to another place. Rollback, recovery, migration and the return of
a held job are this one thing; the scheduler carries it from phase to phase, and it destroys last.

Phases: capturing (a migration takes its generation) → fetching (images to the nodes, verified) → safety (the living job
is kept as a generation) → ending (old pods end, or their leases run out) → restoring (pods of a new epoch, locked) →
done. Until `ending` nothing is lost by failing; after it, a failure falls back to another generation.
Invariant: at most one open Resume per job.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from checkpoints.models.generation import Generation
from clusteros.core.states import StateGraph
from jobs.models import Job, Run

RESUME_GRAPH = StateGraph(
    "resume", "planned",
    {
        "planned": ["capturing", "fetching", "failed"],
        "capturing": ["fetching", "failed"],
        "fetching": ["safety", "ending", "failed"],
        "safety": ["ending", "failed"],
        "ending": ["restoring", "failed"],
        "restoring": ["done", "failed"],
        "done": [],
        "failed": [],
    },
)  # fmt: skip
RESUME_OPEN = ("planned", "capturing", "fetching", "safety", "ending", "restoring")


class Resume(models.Model):
    GRAPH = RESUME_GRAPH

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="resumes")
    cause = models.CharField(max_length=20)
    """rollback, recovery, migration, release."""
    state = models.CharField(max_length=20, choices=RESUME_GRAPH.choices(), default=RESUME_GRAPH.initial)
    generation = models.ForeignKey(Generation, null=True, on_delete=models.CASCADE, related_name="resumes")
    safety = models.ForeignKey(Generation, null=True, on_delete=models.SET_NULL, related_name="+")
    placement = models.JSONField(default=dict)
    """{pod: node name}."""
    wanted = models.JSONField(default=dict)
    wants_safety = models.BooleanField(default=True)
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="+")
    attempt = models.IntegerField(default=1)
    decision = models.CharField(max_length=5, null=True)
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=150, blank=True)
    asked_at = models.DateTimeField(auto_now_add=True)
    phase_at = models.DateTimeField(auto_now_add=True)
    deadline = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["asked_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["job"], condition=models.Q(state__in=RESUME_OPEN), name="one_resume_at_a_time"
            ),
        ]

    @property
    def open(self) -> bool:
        return self.state in RESUME_OPEN

    def event_refs(self) -> dict[str, Any]:
        return {**self.job.event_refs(), "generation": self.generation.number if self.generation else None}
