"""Sample: the cluster's figures at an instant, and NodeSample: a node's, for the charts. Nothing is decided by them; they may be lost."""

from __future__ import annotations

from django.db import models

from nodes.models import Node


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


class NodeSample(models.Model):
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    load = models.FloatField()
    mem_used_bytes = models.BigIntegerField()
    pods = models.IntegerField()
    cores_used = models.IntegerField()
    net_in_bytes_per_s = models.BigIntegerField()
    net_out_bytes_per_s = models.BigIntegerField()

    class Meta:
        ordering = ["at"]
        indexes = [models.Index(fields=["node", "at"], name="samples_of_node"), models.Index(fields=["at"], name="node_samples_by_age")]
