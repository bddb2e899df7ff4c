"""The machines of the cluster, what is to be told to them, and what was heard from them.

Invariants: a Command is open until a report shows its effect; it is sent again until then, so it is idempotent by its
body (run, epoch, pod, generation). `key` is unique: asking twice for the same thing makes one row.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models

from clusteros.core.states import StateGraph

NODE_GRAPH = StateGraph(
    "node", "up",
    {
        "up": ["draining", "lost"],
        "draining": ["up", "drained", "lost"],
        "drained": ["up", "lost"],
        "lost": ["up", "drained"],
    },
)  # fmt: skip


class Node(models.Model):
    GRAPH = NODE_GRAPH

    name = models.CharField(max_length=63, unique=True)
    state = models.CharField(max_length=20, choices=NODE_GRAPH.choices(), default=NODE_GRAPH.initial)
    secret = models.CharField(max_length=100)
    address = models.CharField(max_length=100)
    store_port = models.IntegerField(default=0)
    store_url = models.CharField(max_length=200)
    cores = models.IntegerField()
    mem_bytes = models.BigIntegerField()
    version = models.CharField(max_length=50, blank=True)
    joined_at = models.DateTimeField(auto_now_add=True)

    last_heartbeat = models.DateTimeField(null=True)
    boot_id = models.CharField(max_length=64, blank=True)
    boottime_ns = models.BigIntegerField(default=0)
    load1 = models.FloatField(default=0)
    mem_used_bytes = models.BigIntegerField(default=0)
    store_bytes = models.BigIntegerField(default=0)
    disk_free_bytes = models.BigIntegerField(default=0)
    net_in_bytes_per_s = models.BigIntegerField(default=0)
    net_out_bytes_per_s = models.BigIntegerField(default=0)
    doctor = models.JSONField(default=dict)
    drain_words = models.TextField(blank=True)
    """Why a drain does not get on, in words."""
    drain_wanted = models.BooleanField(default=False)
    """Survives a loss: a node that was draining comes back draining."""

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def event_refs(self) -> dict[str, Any]:
        return {"node": self.name}


class JoinToken(models.Model):
    sha256 = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)


class Command(models.Model):
    """The outbox to the nodes: one row per thing that a node shall do, open until `done_at`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="commands")
    kind = models.CharField(max_length=20)
    key = models.CharField(max_length=200, unique=True)
    body = models.JSONField()
    job = models.UUIDField(null=True, db_index=True)
    once = models.BooleanField(default=False)
    """Not idempotent (a signal): sent at most once."""
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)
    sent_count = models.IntegerField(default=0)
    next_send_at = models.DateTimeField(auto_now_add=True)
    done_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_send_at"], condition=models.Q(done_at=None), name="open_commands"),
            models.Index(fields=["created_at"]),
        ]


class NodeReport(models.Model):
    """A report that was taken: its id is listed in `acked`, and the same id is not taken twice."""

    id = models.UUIDField(primary_key=True)
    node = models.ForeignKey(Node, on_delete=models.CASCADE)
    kind = models.CharField(max_length=20)
    received_at = models.DateTimeField(auto_now_add=True, db_index=True)
    refused = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [models.Index(fields=["node", "received_at"])]
