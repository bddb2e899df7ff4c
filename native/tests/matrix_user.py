"""The column of the matrix that an ordinary user runs: t_victims_user.py, for one victim."""

from __future__ import annotations

import random
import subprocess
import sys

from pod_lab import HERE
from t_victims import Trial

TIMEOUT_S = 180


def rootless(t: Trial, _: random.Random) -> str:
    command = [sys.executable, str(HERE / "t_victims_user.py"), t.name]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    return "" if result.returncode == 0 else result.stdout + result.stderr
