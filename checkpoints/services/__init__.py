"""Verbs about generations, by noun: taking.py (the cut and what is reported), replicas.py (who holds the images), keeping.py (pin,
delete, retention), copying.py (jobs that grow from another's generation), inside.py (what one holds) and exporting.py (one as a
file), which ask the nodes by stores.py, importing.py (such a file as a job), resources.py (then and now), resuming.py (bringing a
job back) with plans.py (where to, and what is lost) and fitting.py (could those machines), moving.py (hold, recovery, drain),
figures.py (for charts, and what the store holds)."""

from checkpoints.services.copying import copy_from_generation, plan_copy
from checkpoints.services.exporting import open_export
from checkpoints.services.inside import open_core, processes_of
from checkpoints.services.keeping import apply_retention, change_retention, delete_generation, find_generation, pin_generation
from checkpoints.services.moving import hold_job, migrate_job, recover_job
from checkpoints.services.plans import plan_resume
from checkpoints.services.resources import difference_of
from checkpoints.services.resuming import resume_run
from checkpoints.services.taking import (
    complete_generation,
    decide_cut,
    fail_generation,
    record_cut,
    record_snapshot,
    take_generation,
)

__all__ = [
    "apply_retention", "change_retention", "complete_generation", "copy_from_generation", "decide_cut", "delete_generation",
    "difference_of", "fail_generation", "find_generation", "hold_job", "migrate_job", "open_core", "open_export", "pin_generation",
    "plan_copy", "plan_resume", "processes_of", "record_cut", "record_snapshot", "recover_job", "resume_run", "take_generation",
]  # fmt: skip
