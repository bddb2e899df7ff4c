"""Rows of jobs: job.py (what was asked), run.py (its incarnations), output.py (what it wrote)."""

from jobs.models.job import JOB_GRAPH, JOB_OVER, Job, JobFile, next_job_number
from jobs.models.output import LogChunk, OutputFile
from jobs.models.run import POD_GRAPH, POD_LIVE, RUN_GRAPH, Pod, Run

__all__ = [
    "JOB_GRAPH", "JOB_OVER", "POD_GRAPH", "POD_LIVE", "RUN_GRAPH",
    "Job", "JobFile", "LogChunk", "OutputFile", "Pod", "Run", "next_job_number",
]  # fmt: skip
