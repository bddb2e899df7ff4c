"""SharedPlace: a directory that nodes share, as a place for images; SharedMount: what a node sees of it; SharedImage: what lies there.

A place is known by the identity that its mark gives it, not by its path: the same path on two nodes may be two directories. What is
known of its images outlasts every moment in which nobody sees it: a place that is not mounted is not empty.
"""

from __future__ import annotations

from django.db import models

from nodes.models import Node


class SharedPlace(models.Model):
    id = models.CharField(max_length=64, primary_key=True)
    directory = models.CharField(max_length=300)
    bytes = models.BigIntegerField(default=0)
    free_bytes = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["directory", "id"]

    def __str__(self) -> str:
        return self.directory


class SharedMount(models.Model):
    node = models.OneToOneField(Node, on_delete=models.CASCADE, related_name="mount")
    place = models.ForeignKey(SharedPlace, null=True, on_delete=models.CASCADE, related_name="mounts")
    """None: it never saw the mark of one."""
    directory = models.CharField(max_length=300)
    ok = models.BooleanField(default=False)
    words = models.CharField(max_length=300, blank=True)


class SharedImage(models.Model):
    """The place holds (complete) or shall hold the whole closure of the image `digest`."""

    digest = models.CharField(max_length=64)
    place = models.ForeignKey(SharedPlace, on_delete=models.CASCADE, related_name="images")
    complete = models.BooleanField(default=False)
    since = models.DateTimeField(auto_now_add=True)
    failed_words = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["digest", "place"], name="one_image_per_place")]
        indexes = [models.Index(fields=["place", "complete"], name="images_of_place")]
