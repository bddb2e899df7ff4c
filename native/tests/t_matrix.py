#!/usr/bin/env python3
"""A rotating choice of the matrix's cells, for a bounded time and with the engine under sanitizers; the seed is printed.
`t_matrix.py SEED` runs the same choice again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("CLUSTEROS_NATIVE", str(Path(__file__).resolve().parent.parent / "build" / "native-san"))
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")  # the leak checker stops its process by ptrace, and may wait for ever
import matrix

SECONDS = 25

if __name__ == "__main__":
    seed = ["--seed", sys.argv[1]] if len(sys.argv) > 1 else []
    sys.argv[1:] = ["--sample", str(SECONDS), *seed]
    sys.exit(matrix.main())
