"""Clocks and figures of this machine, as the protocol wants them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def mem_used_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return total - available


def figures(state: Path) -> dict[str, Any]:
    """load1, mem_used_bytes, disk_free_bytes."""
    return {"load1": os.getloadavg()[0], "mem_used_bytes": mem_used_bytes(), "disk_free_bytes": shutil.disk_usage(state).free}
