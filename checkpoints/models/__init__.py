"""Rows of checkpoints: generation.py (what was captured and where it lies), resume.py (a job on its way back),
sample.py (figures for the charts)."""

from checkpoints.models.generation import GENERATION_GRAPH, SNAPSHOT_GRAPH, Generation, Replica, Snapshot
from checkpoints.models.resume import RESUME_GRAPH, RESUME_OPEN, Resume
from checkpoints.models.sample import NodeSample, Sample

__all__ = [
    "GENERATION_GRAPH", "RESUME_GRAPH", "RESUME_OPEN", "SNAPSHOT_GRAPH", "Generation", "NodeSample", "Replica", "Resume", "Sample",
    "Snapshot",
]  # fmt: skip
