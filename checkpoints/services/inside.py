"""What a generation holds, asked of the nodes that hold it: its processes, and any of them as an ELF core, so that a debugger
opens the past. The front end reads from a node's store by a ticket, as nodes do from each other; nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx

from checkpoints.models import Generation, Snapshot
from checkpoints.services.plans import check_usable
from checkpoints.services.stores import ask_holders
from clusteros.core.problems import Problem, not_found

LIST_TIMEOUT_S = 20.0
CORE_TIMEOUT_S = 320.0
PIECE_BYTES = 1 << 20
MOST_PODS = 64
MAX_PID = 1 << 31


def processes_of(generation: Generation) -> list[dict[str, Any]]:
    """[{pod, processes, words}] of a complete generation; `words` says why a pod's could not be had. Only the first pods of
    a very wide job are asked for."""
    check_usable(generation)
    snapshots = Snapshot.objects.filter(generation=generation).order_by("pod")[:MOST_PODS]
    return [_of_pod(snapshot) for snapshot in snapshots]


def _of_pod(snapshot: Snapshot) -> dict[str, Any]:
    try:
        answer = ask_holders(snapshot, "processes", timeout=LIST_TIMEOUT_S)
        with closing(answer):
            answer.read()
            return {"pod": snapshot.pod, "processes": answer.json()["processes"], "words": ""}
    except Problem as problem:
        return {"pod": snapshot.pod, "processes": [], "words": problem.detail}
    except (httpx.HTTPError, ValueError, KeyError) as fault:
        return {"pod": snapshot.pod, "processes": [], "words": f"its node did not answer: {fault}"}


def open_core(generation: Generation, pod: int, pid: int) -> tuple[Iterator[bytes], int]:
    """(the bytes of an ELF core, their number) of one process as it was. Problem says why it cannot be had."""
    check_usable(generation)
    snapshot = Snapshot.objects.filter(generation=generation, pod=pod).first() if 0 <= pod < MAX_PID else None
    if snapshot is None or not 0 < pid < MAX_PID:
        raise not_found(f"process {pid} in pod {pod} of generation {generation.number}")
    answer = ask_holders(snapshot, f"cores/{pid}", timeout=CORE_TIMEOUT_S)
    return _pieces(answer), int(answer.headers.get("Content-Length", 0))


def _pieces(answer: httpx.Response) -> Iterator[bytes]:
    with closing(answer):
        yield from answer.iter_bytes(PIECE_BYTES)
