"""Output of jobs: taken in order and once, read as the job's own view (a rolled-back tail is not part of it).

A stream's bytes are counted from the job's beginning: a run that grew from a generation continues at its mark.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from clusteros.core import live
from clusteros.core.problems import invalid
from clusteros.core.settled import settled_up_to
from clusteros.ranks import Sorter
from jobs.models import Job, LogChunk, Pod, Run
from nodes.models import Node

STREAMS = ("stdout", "stderr")
MAX_CHUNK_BYTES = 64 * 1024
PAGE_CHUNKS = 200


def record_log(node: Node, opened: dict[str, Any]) -> None:
    """Append what is new of a chunk. What we have already is left out, a gap is left to be sent again (see `logs` in the
    lease answer)."""
    body = opened["body"]
    stream, offset, data = _chunk(body)
    pods = Pod.objects.select_for_update(of=("self",)).select_related("run")
    pod = pods.filter(run_id=body["run"], index=int(body["pod"]), node=node).first()
    if pod is None:
        raise invalid("pod", "this node has no such pod")
    known = getattr(pod, f"{stream}_bytes")
    if offset > known or offset + len(data) <= known:
        return
    fresh = data[known - offset :]
    LogChunk.objects.create(run=pod.run, pod=pod.index, stream=stream, offset=known, data=fresh)
    Pod.objects.filter(pk=pod.pk).update(**{f"{stream}_bytes": known + len(fresh)})
    text = fresh.decode(errors="replace")
    live.publish_log(str(pod.run.job_id), {
        "run": str(pod.run_id), "pod": pod.index, "stream": stream, "offset": known, "text": text,
    })  # fmt: skip


def _chunk(body: dict[str, Any]) -> tuple[str, int, bytes]:
    stream, offset = body["stream"], body["offset"]
    if stream not in STREAMS or isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
        raise invalid("stream", "not a stream and an offset")
    try:
        data = base64.b64decode(body["data"], validate=True)
    except (ValueError, TypeError):
        raise invalid("data", "not base64") from None
    if len(data) > MAX_CHUNK_BYTES:
        raise invalid("data", "more than 64 KiB")
    return stream, offset, data


@dataclass(frozen=True)
class Segment:
    """What of a run belongs to the job's view: everything, or up to the marks of the run that grew from it."""

    run: Run
    ends: dict[str, dict[str, int]] | None

    def end(self, pod: int, stream: str) -> int | None:
        return None if self.ends is None else int(self.ends.get(str(pod), {}).get(stream) or 0)


def segments(job: Job, epoch: int | None = None) -> list[Segment]:
    """The chain of runs from the job's start to its newest run (or that of `epoch`, for history)."""
    runs = {run.pk: run for run in Run.objects.filter(job=job)}
    newest = [run for run in runs.values() if epoch is None or run.epoch == epoch]
    run: Run | None = max(newest, key=lambda r: r.epoch, default=None)
    chain: list[Segment] = []
    ends = None
    while run is not None:
        chain.append(Segment(run, ends))
        ends = run.log_marks if run.parent_id else None
        run = runs.get(run.parent_id) if run.parent_id else None
    return chain[::-1]


class OfRank:
    """The lines of one rank, by the labels of the launcher (clusteros/ranks.py), without their labels. Chunks are given in the order
    of their stream; a line that begins in the chunk before them is known by that chunk."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._sorters: dict[tuple[Any, int, str], Sorter] = {}

    def text_of(self, chunk: LogChunk, text: str) -> str:
        sorter = self._sorters.get(key := (chunk.run_id, chunk.pod, chunk.stream))  # type: ignore[attr-defined]
        if sorter is None:
            sorter = self._sorters[key] = Sorter()
            for _ in sorter.take(_before(chunk)):
                pass
        return "".join(line for rank, line in sorter.take(text) if rank == self._rank)


def _before(chunk: LogChunk) -> str:
    """The end of the chunk before, from where its last line begins."""
    same = LogChunk.objects.filter(run=chunk.run_id, pod=chunk.pod, stream=chunk.stream, offset__lt=chunk.offset)  # type: ignore[attr-defined]
    found = same.order_by("-offset").first()
    return bytes(found.data).decode(errors="replace").rpartition("\n")[2] if found else ""


def read_log(
    job: Job, *, after: int = 0, pod: int | None = None, stream: str | None = None, epoch: int | None = None, rank: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """(chunks in the order of their arrival with an id greater than `after`, the id to go on after). A chunk that may
    still appear with a smaller id is waited for. `rank`: only the lines that its launcher labelled so."""
    ends = {s.run.pk: s for s in segments(job, epoch)}
    settled = settled_up_to(LogChunk.objects.all(), "recorded_at")
    chunks = LogChunk.objects.filter(run_id__in=ends, id__gt=after, id__lte=settled).order_by("id")
    if pod is not None:
        chunks = chunks.filter(pod=pod)
    if stream is not None:
        chunks = chunks.filter(stream=stream)
    items, last, of_rank = [], after, None if rank is None else OfRank(rank)
    for chunk in chunks[:PAGE_CHUNKS]:
        last = chunk.id
        text = _visible(chunk, ends[chunk.run_id]).decode(errors="replace")
        text = of_rank.text_of(chunk, text) if of_rank else text
        if text:
            items.append(_as_json(chunk, text, ends[chunk.run_id].run) | {"rank": rank})
    return items, last


def _visible(chunk: LogChunk, segment: Segment) -> bytes:
    end = segment.end(chunk.pod, chunk.stream)
    data = bytes(chunk.data)
    return data if end is None else data[: max(0, end - chunk.offset)]


def _as_json(chunk: LogChunk, text: str, run: Run) -> dict[str, Any]:
    return {
        "id": chunk.id, "epoch": run.epoch, "run": str(run.pk), "pod": chunk.pod, "stream": chunk.stream,
        "offset": chunk.offset, "text": text, "at": chunk.recorded_at.isoformat(),
    }  # fmt: skip


def lines_after(job: Job, marks: dict[str, dict[str, int]]) -> int:
    """How many lines the job's present view holds after these marks ({pod: {stream: offset}})."""
    beyond = Q(pk__in=())
    for pod, streams in marks.items():
        for stream in STREAMS:
            beyond |= Q(pod=int(pod), stream=stream, offset__gt=int(streams.get(stream) or 0) - MAX_CHUNK_BYTES)
    lines = 0
    for segment in segments(job):
        for chunk in LogChunk.objects.filter(beyond, run=segment.run).iterator(chunk_size=50):
            mark = int(marks[str(chunk.pod)].get(chunk.stream) or 0)
            lines += _visible(chunk, segment)[max(0, mark - chunk.offset) :].count(b"\n")
    return lines


def read_stream(job: Job, pod: int, stream: str) -> Iterator[bytes]:
    """The bytes of one stream of one pod, in the job's view, from its beginning."""
    for segment in segments(job):
        chunks = LogChunk.objects.filter(Q(run=segment.run), pod=pod, stream=stream).order_by("offset")
        for chunk in chunks.iterator(chunk_size=50):
            yield _visible(chunk, segment)
