"""The one table of outcomes, read from codes.def: C exit status, Python exception, HTTP problem, words.

CODES maps a name to its Code; by_exit() finds the Code of an exit status. Only codes with `retry` may be
tried again by whoever asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r'^CODE\((\w+),\s*(\d+),\s*(\d+),\s*([01]),\s*"(.*)"\)\s*$', re.MULTILINE)


@dataclass(frozen=True)
class Code:
    name: str
    exit_status: int
    http: int
    retry: bool
    words: str


def read_codes(text: str) -> dict[str, Code]:
    """Parse the CODE(...) lines; a doubled name or exit status is a ValueError."""
    codes = [Code(n, int(e), int(h), r == "1", w) for n, e, h, r, w in _LINE.findall(text)]
    if len({c.name for c in codes}) != len(codes) or len({c.exit_status for c in codes}) != len(codes):
        raise ValueError("codes.def names a code or an exit status twice")
    return {code.name: code for code in codes}


CODES = read_codes((Path(__file__).parent / "codes.def").read_text())
_BY_EXIT = {code.exit_status: code for code in CODES.values()}


def by_exit(status: int) -> Code:
    """The code of an exit status; what is not in the table is a fault of the program (BUG)."""
    return _BY_EXIT.get(status, CODES["BUG"])
