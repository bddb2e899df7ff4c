#!/usr/bin/env python3
"""A rotating choice of the matrix's cells, for a bounded time; the seed is printed. `t_matrix.py SEED` runs the same choice again."""

from __future__ import annotations

import sys

import matrix

SECONDS = 45

if __name__ == "__main__":
    seed = ["--seed", sys.argv[1]] if len(sys.argv) > 1 else []
    sys.argv[1:] = ["--sample", str(SECONDS), *seed]
    sys.exit(matrix.main())
