"""Huge pages for a victim that says how many it needs (`HUGE PAGES: N` in its source): set aside for the time of its trial, with the group that may use
them for System V shared memory; afterwards both are what they were, and one trial at a time has them."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POOL = Path("/proc/sys/vm/nr_hugepages")
GROUP = Path("/proc/sys/vm/hugetlb_shm_group")
FREE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
LOCK = Path("/run/lock/clusteros-test-huge-pages")
USERS_GROUP = 1000


class NoHugePages(OSError):
    """This machine gives none: said by name, and no trial is counted as passed."""


def pages_of(source: Path) -> int:
    found = re.search(r"HUGE PAGES: (\d+)", source.read_text())
    return int(found.group(1)) if found else 0


def free() -> int:
    return int(FREE.read_text()) if FREE.exists() else 0


@contextmanager
def ending() -> Iterator[None]:
    """Whoever is ended by SIGTERM (a time limit) gives back first; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def huge_pages(count: int, group: int = USERS_GROUP) -> Iterator[None]:
    """Nothing is done for a victim that needs none; an ordinary user finds what root has set aside."""
    if not count or free() >= count:
        yield
        return
    if os.geteuid() != 0 or not os.access(POOL, os.W_OK):
        raise NoHugePages(f"needs {count} huge pages of 2 MiB, free: {free()}, and may not set any aside")
    with LOCK.open("w") as lock, ending():
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = (POOL.read_text(), GROUP.read_text())
        try:
            POOL.write_text(str(int(before[0]) + count))
            GROUP.write_text(str(group))
            if free() < count:
                raise NoHugePages(f"needs {count} huge pages of 2 MiB, this machine gives {free()}")
            yield
        finally:
            POOL.write_text(before[0])
            GROUP.write_text(before[1])
