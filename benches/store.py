"""The store beside what limits it, measured in one run on this machine: put, put again, get; memcpy, SHA-256, LZ4, plain file.

GB/s of content on all processors; `durable` counts the commit with its fsync; `ratio` is content over stored bytes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
ENGINE = REPOSITORY / "native"
KINDS = ("random", "floats", "text")
COLUMNS = ("whole", "direct", "memcpy", "sha256", "lz4", "file", "put", "durable", "known", "get", "ratio")


def compile_bench(directory: Path) -> Path:
    """Compile benches/store.c with the rooms of the engine that it measures; the path of the program."""
    program = directory / "bench"
    rooms = [str(path) for room in ("base", "image", "store", "vendor/lz4") for path in sorted((ENGINE / room).glob("*.c"))]
    flags = ["-O2", "-std=gnu17", "-D_GNU_SOURCE", "-fno-strict-aliasing", "-I", str(ENGINE)]
    subprocess.run(["gcc", *flags, "-o", str(program), str(REPOSITORY / "benches" / "store.c"), *rooms, "-lpthread", "-lm"], check=True)
    return program


def measure(program: Path, kind: str, mebibytes: int, where: Path | None) -> dict[str, Any]:
    """One run in a directory of its own; what the program printed."""
    with tempfile.TemporaryDirectory(prefix="bench-store-", dir=where) as directory:
        run = subprocess.run([str(program), kind, str(mebibytes), directory], capture_output=True, text=True, check=True)
    return dict(json.loads(run.stdout))


def measure_limits(program: Path, kind: str, mebibytes: int, where: Path) -> tuple[float, float]:
    """GB/s of copy + digest + compressor on all processors, and of the disk past the page cache: the better of two."""
    runs = []
    for _ in range(2):
        run = subprocess.run([str(program), kind, str(mebibytes), str(where), "limits"], capture_output=True, text=True, check=True)
        runs.append(json.loads(run.stdout))
    return max(run["whole"] for run in runs), max(run["direct"] for run in runs)


def main() -> None:
    """Print a table, one row for each kind of content: medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the store is made (default: the temporary directory)")
    options = parser.parse_args()
    table = Table("content", *COLUMNS, title=f"store, {options.mebibytes} MiB, GB/s, median of {options.runs}")
    with tempfile.TemporaryDirectory(prefix="bench-store-") as directory:
        program = compile_bench(Path(directory))
        for kind in KINDS:
            runs = [measure(program, kind, options.mebibytes, options.dir) for _ in range(options.runs)]
            table.add_row(kind, *(f"{statistics.median(run[column] for run in runs):.2f}" for column in COLUMNS))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
