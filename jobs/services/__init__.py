"""Verbs about jobs, by noun: submit.py, bulk.py (many at
once, arrays), foresight.py (a submission only tried), placing.py, running.py (what nodes report), ending.py, asking.py (what users
ask of a job), logs.py, files.py. Verbs that need generations are in checkpoints.services."""

from jobs.services.asking import cancel_job, exec_in_job, hold_queued, release_job, signal_job, suspend_job, thaw_job
from jobs.services.bulk import parse_indexes, submit_array, submit_jobs
from jobs.services.files import check_path, put_job_file, record_files, record_output
from jobs.services.foresight import foresee
from jobs.services.logs import read_log, read_stream, record_log
from jobs.services.placing import place_run, room_of_nodes, start_run
from jobs.services.running import record_inventory, record_pod
from jobs.services.submit import copy_job, find_job, submit_job

__all__ = [
    "cancel_job", "check_path", "copy_job", "exec_in_job", "find_job", "foresee", "hold_queued", "parse_indexes",
    "place_run", "put_job_file", "read_log", "read_stream", "record_files", "record_inventory", "record_log",
    "record_output", "record_pod", "release_job", "room_of_nodes", "signal_job", "start_run", "submit_array",
    "submit_job", "submit_jobs", "suspend_job", "thaw_job",
]  # fmt: skip
