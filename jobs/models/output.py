"""What a job wrote: LogChunk (bytes of its streams) and OutputFile (files of its working directory).

Invariants: the chunks of one pod and stream in one run follow each other without gap or overlap; they are never moved
or cut: after a rollback the new run's chunks begin at the generation's mark, and what lies beyond the mark in the old
run stays there as history.
"""

from __future__ import annotations

from django.db import models

from jobs.models.run import Run


class LogChunk(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log_chunks")
    pod = models.IntegerField()
    stream = models.CharField(max_length=6)
    offset = models.BigIntegerField()
    data = models.BinaryField()
    recorded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "pod", "stream", "offset"], name="one_chunk_per_offset"),
        ]


class OutputFile(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="output_files")
    pod = models.IntegerField()
    path = models.CharField(max_length=500)
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    mtime = models.FloatField(default=0)
    uploaded = models.BooleanField(default=False)

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["run", "pod", "path"], name="one_output_per_path")]
