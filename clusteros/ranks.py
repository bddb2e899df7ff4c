"""Which rank wrote a line of a parallel program's output, by the label that its launcher put before it.

The ranks of a pod share the pipe of their launcher, so nobody outside can tell their lines apart; the launchers can, and do when
they are asked: Open MPI 4 `mpirun --tag-output`, Open MPI 5 `mpirun --output tag`, MPICH and Intel MPI `mpiexec -prepend-rank`.
Pure; shared by the console and the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LABEL = re.compile(r"\[(?:[^\]\s@]{1,80}@)?(?:\d{1,9},)?(\d{1,9})\](?:<(?:stdout|stderr|stddiag)>:?)? ?")
LINE = re.compile(r"[^\n]*\n|[^\n]+")
"""Ended by line feeds alone: a progress bar's carriage returns stay within its line."""
HOW = "mpirun --tag-output (Open MPI 4), mpirun --output tag (Open MPI 5), mpiexec -prepend-rank (MPICH)"


def label_of(line: str) -> tuple[int | None, str]:
    """(the rank, the line without its label); (None, the line) where there is none."""
    found = LABEL.match(line)
    return (int(found[1]), line[found.end() :]) if found else (None, line)


class Sorter:
    """Takes the text of one stream piece by piece, wherever the pieces end, and gives each line with its rank."""

    def __init__(self, rank: int | None = None, *, within: bool = False) -> None:
        self.rank, self.within = rank, within
        """Of the line that is not ended yet, if one is."""

    def take(self, text: str) -> Iterator[tuple[int | None, str]]:
        for line in LINE.findall(text):
            if not self.within:
                self.rank, line = label_of(line)
            self.within = not line.endswith("\n")
            yield self.rank, line

