"""A job's log as the job page shows it: every chunk in the order in which it came, with a mark where the job was
brought back to a generation. What a rollback cut stays readable, dimmed.

The cursor is the id of the last chunk shown. Ids are given before commit, so a chunk with a smaller id may appear
later: like events_after, a fresh gap in the ids holds the cursor back until it is filled or surely empty
(core/settled.py).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db.models.functions import Length

from clusteros.core.settled import settled_up_to
from jobs.models import Job, LogChunk, Run
from jobs.services.logs import OfRank, Segment, segments

FIRST_BYTES = 128 * 1024
PAGE_CHUNKS = 400
MOST_FOUND = 300
MOST_SEARCHED_BYTES = 16 << 20


@dataclass(frozen=True)
class Piece:
    """What one row of the log shows: text of one stream of one pod, or the mark of a new run."""

    text: str
    pod: int = 0
    stream: str = "stdout"
    stale: bool = False
    mark: str = ""
    who: str = ""
    """The pod, where the text of another one stood before."""
    at: datetime.datetime | None = None
    """When it came, where it begins a line."""


@dataclass(frozen=True)
class Tail:
    pieces: list[Piece]
    cursor: int
    run: str
    at: int | None
    """The pod that wrote last."""
    skipped: bool


def read_tail(
    job: Job, after: int | None, last_run: str, at: int | None, pod: int | None, stream: str, rank: int | None = None
) -> Tail:
    """The chunks after the cursor; without a cursor the end of the log, as much as a screen can use. `rank`: its lines alone,
    where the launcher labels them."""
    runs = {run.id: run for run in Run.objects.filter(job=job)}
    chunks = LogChunk.objects.filter(run__job=job)
    if pod is not None:
        chunks = chunks.filter(pod=pod)
    if stream:
        chunks = chunks.filter(stream=stream)
    found, skipped = _first(chunks) if after is None else (_later(chunks, after), False)
    lines = {segment.run.id: segment for segment in segments(job)}
    pieces, run = _pieces(found, runs, lines, _uuid(last_run), None if rank is None else OfRank(rank))
    last = found[-1].pk if found else after or 0
    return Tail(_with_pods_named(pieces, at, job.pods), last, str(run or ""), found[-1].pod if found else at, skipped)


def _first(chunks: Any) -> tuple[list[LogChunk], bool]:
    chunks = chunks.filter(id__lte=settled_up_to(LogChunk.objects.all(), "recorded_at"))
    sizes = chunks.annotate(size=Length("data")).order_by("-id").values_list("id", "size")[:PAGE_CHUNKS]
    total, ids = 0, []
    for number, size in sizes:
        if total >= FIRST_BYTES:
            break
        total += size
        ids.append(number)
    found = list(LogChunk.objects.filter(id__in=ids).order_by("id"))
    return found, bool(ids) and chunks.filter(id__lt=ids[-1]).exists()


def _later(chunks: Any, after: int) -> list[LogChunk]:
    settled = settled_up_to(LogChunk.objects.all(), "recorded_at")
    return list(chunks.filter(id__gt=after, id__lte=settled).order_by("id")[:PAGE_CHUNKS])


def _pieces(
    chunks: Iterable[LogChunk], runs: dict[UUID, Run], lines: dict[UUID, Segment], last_run: UUID | None, of_rank: OfRank | None
) -> tuple[list[Piece], UUID | None]:
    pieces: list[Piece] = []
    for chunk in chunks:
        run = runs[chunk.run_id]  # type: ignore[attr-defined]
        if run.id != last_run and (last_run is not None or run.from_generation is not None):
            pieces.append(Piece("", mark=_mark_words(run)))
        last_run = run.id
        parts = _split_at_mark(chunk, _kept_to(lines, chunk))
        pieces += [replace(part, text=of_rank.text_of(chunk, part.text)) for part in parts] if of_rank else parts
    return _timed([piece for piece in pieces if piece.text or piece.mark]), last_run


def _timed(pieces: list[Piece]) -> list[Piece]:
    """A time only where a line begins, and not the same second twice."""
    timed, fresh, second = [], True, None
    for piece in pieces:
        this = piece.at.replace(microsecond=0) if piece.at else None
        timed.append(piece if fresh and this != second else replace(piece, at=None))
        second = this if fresh and this else second
        fresh = piece.mark != "" or piece.text.endswith("\n")
    return timed


@dataclass(frozen=True)
class Found:
    line: str
    pod: int
    stream: str
    at: datetime.datetime


def find_lines(job: Job, text: str, pod: int | None, stream: str) -> tuple[list[Found], bool]:
    """(the newest lines of any run that hold `text`, in whatever case; was all of the log looked at). Looked at from the
    end, chunk by chunk: a line that two chunks share is found in its parts."""
    chunks = LogChunk.objects.filter(run__job=job).order_by("-id")
    chunks = chunks if pod is None else chunks.filter(pod=pod)
    chunks = chunks.filter(stream=stream) if stream in ("stdout", "stderr") else chunks
    wanted, found, looked = text.lower(), [], 0
    for chunk in chunks.iterator(chunk_size=100):
        looked += len(chunk.data)
        lines = bytes(chunk.data).decode("utf-8", "replace").splitlines()
        found += [Found(line, chunk.pod, chunk.stream, chunk.recorded_at) for line in reversed(lines) if wanted in line.lower()]
        if len(found) >= MOST_FOUND or looked > MOST_SEARCHED_BYTES:
            return found[:MOST_FOUND][::-1], False
    return found[::-1], True


def _with_pods_named(pieces: list[Piece], at: int | None, pods: int) -> list[Piece]:
    """In a job of several pods, say whose text begins where another's stood."""
    if pods == 1:
        return pieces
    named = []
    for piece in pieces:
        changed = not piece.mark and piece.pod != at
        named.append(replace(piece, who=f"pod {piece.pod}") if changed else piece)
        at = at if piece.mark else piece.pod
    return named


def _mark_words(run: Run) -> str:
    if run.from_generation is None:
        return f"run {run.epoch}: started from the beginning"
    if run.epoch == 1:  # only a copy begins with a generation
        return f"grown from generation {run.from_generation}: what was printed before it stands in the log of the job it was copied from"
    return f"run {run.epoch}: back at generation {run.from_generation}; output after it, dimmed above, is kept as history"


def _kept_to(segments: dict[UUID, Segment], chunk: LogChunk) -> int | None:
    """How far the present line of runs keeps this run's stream: None all of it, 0 nothing, else up to a mark."""
    segment = segments.get(chunk.run_id)  # type: ignore[attr-defined]
    return 0 if segment is None else segment.end(chunk.pod, chunk.stream)


def _split_at_mark(chunk: LogChunk, kept_to: int | None) -> list[Piece]:
    data = bytes(chunk.data)
    kept = len(data) if kept_to is None else max(0, min(len(data), kept_to - chunk.offset))
    parts = [(data[:kept], False), (data[kept:], True)]
    return [Piece(part.decode("utf-8", "replace"), chunk.pod, chunk.stream, stale, at=chunk.recorded_at) for part, stale in parts if part]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
