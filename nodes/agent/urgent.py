"""Going first: while a job stands, whoever brings the word that it may run on does not wait behind others' turns (decision 45)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def going_first() -> Iterator[None]:
    """The calling thread goes before everything else that runs on this machine; where that is not allowed nothing changes."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
