"""Rows of checkpoints: generation.py (what was captured and where it lies), resume.py (a job on its way back)."""

from checkpoints.models.generation import GENERATION_GRAPH, SNAPSHOT_GRAPH, Generation, Replica, Snapshot
from checkpoints.models.resume import RESUME_GRAPH, RESUME_OPEN, Resume

__all__ = [
    "GENERATION_GRAPH", "RESUME_GRAPH", "RESUME_OPEN", "SNAPSHOT_GRAPH", "Generation", "Replica", "Resume", "Snapshot",
]  # fmt: skip
