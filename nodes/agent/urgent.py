"""Going first: while a job stands, whoever brings the word that it may run on does not wait behind others' turns (decisions 45 and 68).

All threads of the process go first together: one that holds the interpreter's lock and waits for a processor would hold up the urgent
one too.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SWITCH_S = 0.0005  # how long another thread may keep the interpreter's lock
PATIENCE_S = 0.5
_lock = threading.Lock()
_nobody = threading.Event()
_nobody.set()
_count = 0
_usual_switch_s = sys.getswitchinterval()


@contextmanager
def going_first() -> Iterator[Callable[[], None]]:
    """This process goes before everything else that runs on this machine; where that is not allowed nothing changes.

    What is given ends it early, for when it takes long."""
    left = [1]

    def ease() -> None:
        if left:
            _change(-left.pop())

    _change(1)
    try:
        yield ease
    finally:
        ease()


def give_way() -> None:
    """What can wait a moment is not begun while somebody goes first."""
    _nobody.wait(PATIENCE_S)


def _change(by: int) -> None:
    global _count
    with _lock:
        before, _count = _count, _count + by
        if bool(before) != bool(_count):
            _put_all(bool(_count))


def _put_all(first: bool) -> None:
    (_nobody.clear if first else _nobody.set)()
    sys.setswitchinterval(SWITCH_S if first else _usual_switch_s)
    policy, priority = (os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, 1) if first else (os.SCHED_OTHER, 0)
    for name in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended, or it is not allowed
            os.sched_setscheduler(int(name), policy, os.sched_param(priority))
