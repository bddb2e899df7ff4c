#!/usr/bin/env python3
"""Writes docs/coverage.md from the tests: one row for each `COVERAGE: <object> | captured|refused|differs | <words or message>` in a comment of
victims/*.c, t_*.py, unit_*.c and programs/. `--check` only compares. A row that is refused must quote what the engine really says: the message is
looked for among the strings of the engine's source."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from t_refused import REFUSED

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parent
RESULT = NATIVE.parent / "docs" / "coverage.md"
ENGINE_ROOMS = ("snapshot", "restore", "kernel", "pod", "image", "verbs")
VERDICTS = ("captured", "refused", "differs")
FIXED_MIN = 12  # characters of a format that must be in a message for it to count

# The first chapter one of whose words is in the object's name; a victim's first letter decides else.
CHAPTERS = (
    ("Programs", r"^program |program under|\bMPI\b"),
    ("Signals and time", r"signal|timer|clock|sleep|poll, select|epoll_wait|time left|pending|alternate stack|sigtimedwait"),
    ("Sockets", r"socket|TCP|UDP|netlink|multicast|datagram|ICMP|raw|packet|connection|listener"),
    ("Namespaces", r"namespace|System V|POSIX message|POSIX queue|mount|host name|sysctl|veth|bridge|tun\b|nftables|tmpfs|inotify limits"),
    ("CPU state", r"register|AVX|xsave|x87|vDSO|rseq|robust|protection keys|CPU feature"),
    ("Memory", r"memory|mapping|memfd|hugetlb|huge page|mlock|madvise|stack that grows|userfault|heap|brk|numa|membarrier|mseal|copy-on-write"),
    ("Files", r"file|director|FIFO|pipe|lock|pty|terminal|typed|inotify|fanotify|epoll|eventfd|descriptor|O_|device|lease|AIO|io_uring|/dev/|perf|bpf"),
    ("Process", r""),
)
ORDER = ("Process", "CPU state", "Memory", "Files", "Sockets", "Signals and time", "Namespaces", "Programs")


@dataclass(frozen=True)
class Row:
    thing: str
    verdict: str
    words: str
    source: str

    @property
    def chapter(self) -> str:
        return next(name for name, pattern in CHAPTERS if re.search(pattern, self.thing, re.I if pattern.islower() else 0))


class Fault(Exception):
    """A row that is not well formed or not true."""


def sources() -> list[Path]:
    found = [*HERE.glob("victims/*.c"), *HERE.glob("t_*.py"), *HERE.glob("unit_*.c"), *HERE.glob("programs/*.py"), *HERE.glob("programs/work/*")]
    return sorted(p for p in found if p.is_file())


def rows_of(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.search(r"COVERAGE: (.*?)(?:\s*\*/|\"{3})?\s*$", line)
        if not found or "<object>" in line:
            continue
        parts = [part.strip() for part in found.group(1).split("|")] + [""]
        if len(parts) < 3 or not parts[0] or parts[1] not in VERDICTS:
            raise Fault(f"{path.name}:{number}: not '<object> | captured|refused|differs | <words>': {found.group(1)}")
        rows.append(Row(parts[0], parts[1], parts[2], path.name))
    return rows


@cache
def engine_strings() -> tuple[str, ...]:
    """The string literals of the engine, adjacent ones joined."""
    literal = r'"(?:[^"\\\n]|\\.)*"'
    found: list[str] = []
    for room in ENGINE_ROOMS:
        for path in (NATIVE / room).glob("*.[ch]"):
            for group in re.findall(rf"{literal}(?:\s*{literal})*", path.read_text()):
                found.append("".join(part[1:-1] for part in re.findall(literal, group)).replace('\\"', '"'))
    return tuple(found)


def engine_says(words: str) -> bool:
    """Whether one of the engine's messages contains these words, or is a format that gives them."""
    for text in engine_strings():
        if words in text or (text.endswith(": ") and len(text) >= FIXED_MIN and words.startswith(text)):
            return True
        fixed = re.split(r"%[-0-9.*]*(?:l|ll|z|h)?[a-zA-Z]", text)
        if len(fixed) > 1 and sum(map(len, fixed)) >= FIXED_MIN and re.fullmatch(".+?".join(map(re.escape, fixed)), words):
            return True
    return False


def all_rows() -> list[Row]:
    rows: dict[str, Row] = {}
    for path in sources():
        table_rows = [Row(thing, "refused", words, path.name) for thing, words, _ in REFUSED] if path.name == "t_refused.py" else []
        for row in rows_of(path) + table_rows:
            if row.verdict == "refused" and not (row.words and engine_says(row.words)):
                raise Fault(f"{row.source}: the engine has no message '{row.words}' for: {row.thing}")
            before = rows.setdefault(row.thing, row)
            if before.verdict != row.verdict:
                raise Fault(f"{row.thing}: {before.verdict} in {before.source}, {row.verdict} in {row.source}")
    return list(rows.values())


def table(rows: list[Row]) -> list[str]:
    lines = ["| object | after a restore | words or message | shown by |", "|---|---|---|---|"]
    return lines + [f"| {r.thing} | {r.verdict} | {'“' + r.words + '”' if r.verdict == 'refused' else r.words} | `{r.source}` |" for r in rows]


def document(rows: list[Row]) -> str:
    counts = ", ".join(f"{sum(r.verdict == v for r in rows)} {v}" for v in VERDICTS)
    lines = [
        "# What is captured, what is refused, what differs",
        "",
        f"Written by `make coverage` from the tests: {len(rows)} kernel objects and programs, {counts}.",
        "*Captured*: a program that checks itself finds it as it was. *Refused*: `native check` and `native snapshot` name it, with the message given, before",
        "anything is touched. *Differs*: the job goes on, and what is not as it was stands here. The modes in which each of these programs is run: [the matrix](coverage-matrix.md).",
        "",
        "## What differs after a restore",
        "",
        *(f"- **{r.thing}**: {r.words}" for r in rows if r.verdict == "differs"),
    ]
    for chapter in ORDER:
        mine = [r for r in rows if r.chapter == chapter]
        if mine:
            lines += ["", f"## {chapter}", "", *table(mine)]
    return "\n".join(lines) + "\n"


def main() -> int:
    try:
        text = document(all_rows())
    except Fault as fault:
        print(f"coverage: {fault}")
        return 1
    if "--check" not in sys.argv:
        RESULT.write_text(text)
        return 0
    if RESULT.exists() and RESULT.read_text() == text:
        return 0
    print("docs/coverage.md is not what the tests say: run `make coverage`")
    return 1


if __name__ == "__main__":
    sys.exit(main())
