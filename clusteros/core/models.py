"""Rows that belong to no app: the event log and the memory of requests that may be sent twice.

Invariants: an Event is never changed; its id grows, but transactions may commit out of order (see events.settled).
An Event refers to things by plain values, so that it outlives them.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Event(models.Model):
    """One thing that happened. kind is "noun.state" for a move, else "noun.verb"."""

    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=60)
    words = models.TextField(blank=True)
    actor = models.CharField(max_length=150, blank=True)
    owner_id = models.BigIntegerField(null=True)
    job = models.UUIDField(null=True)
    job_number = models.BigIntegerField(null=True)
    run = models.UUIDField(null=True)
    pod = models.IntegerField(null=True)
    generation = models.IntegerField(null=True)
    node = models.CharField(max_length=63, blank=True)
    old = models.CharField(max_length=20, blank=True)
    new = models.CharField(max_length=20, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["job", "id"]), models.Index(fields=["node", "id"])]


class IdempotencyKey(models.Model):
    """What a request with this key was answered. Written in the same transaction as its effect."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=200)
    request = models.CharField(max_length=64)
    status = models.IntegerField(default=0)
    response = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]
