"""Rows of checkpoints: generation.py (what was captured and where it lies), resume.py (a job on its way back),
sample.py (figures for the charts), shared.py
(directories that nodes share)."""

from checkpoints.models.generation import GENERATION_GRAPH, SNAPSHOT_GRAPH, Generation, Replica, Snapshot
from checkpoints.models.resume import RESUME_GRAPH, RESUME_OPEN, Resume
from checkpoints.models.sample import NodeSample, Sample
from checkpoints.models.shared import SharedImage, SharedMount, SharedPlace

__all__ = [
    "GENERATION_GRAPH", "RESUME_GRAPH", "RESUME_OPEN", "SNAPSHOT_GRAPH", "Generation", "NodeSample", "Replica", "Resume", "Sample",
    "SharedImage", "SharedMount", "SharedPlace", "Snapshot",
]  # fmt: skip
