"""Sample: the cluster's figures at an instant, for the charts. Nothing is decided by them; they may be lost."""

from __future__ import annotations

from django.db import models


class Sample(models.Model):
    at = models.DateTimeField(unique=True)
    nodes_up = models.IntegerField()
    cores = models.IntegerField()
    cores_used = models.IntegerField()
    load = models.FloatField()
    mem_bytes = models.BigIntegerField()
    mem_used_bytes = models.BigIntegerField()
    running = models.IntegerField()
    waiting = models.IntegerField()
    generations = models.IntegerField()
    store_bytes = models.BigIntegerField()

    class Meta:
        ordering = ["at"]
