"""What a generation holds, asked of the nodes that hold it: its processes, and any of them as an ELF core, so that a debugger
opens the past. The front end reads from a node's store by a ticket, as nodes do from each other; nothing is kept here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import lru_cache
from typing import Any

import httpx

from checkpoints.models import Generation, Snapshot
from checkpoints.services.plans import check_usable
from checkpoints.services.replicas import holders
from clusteros.core.problems import Problem, not_found
from clusteros.envelope import make_ticket
from nodes.models import Node

ASKER = "front"
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
        answer = _first_answer(snapshot, "processes", LIST_TIMEOUT_S)
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
    answer = _first_answer(snapshot, f"cores/{pid}", CORE_TIMEOUT_S)
    return _pieces(answer), int(answer.headers.get("Content-Length", 0))


def _pieces(answer: httpx.Response) -> Iterator[bytes]:
    with closing(answer):
        yield from answer.iter_bytes(PIECE_BYTES)


def _first_answer(snapshot: Snapshot, what: str, timeout_s: float) -> httpx.Response:
    """Of the first holder that has it; the caller reads and closes it."""
    refusal = Problem("LOST", f"no node that is up holds the image of pod {snapshot.pod}")
    for node in holders(snapshot.digest):
        try:
            answer = _ask(node, f"images/{snapshot.digest}/{what}", timeout_s)
        except httpx.HTTPError as fault:
            refusal = Problem("BUSY", f"{node.name} did not answer: {fault}")
            continue
        if answer.status_code == 200:
            return answer
        refusal = _refusal(node, answer)
    raise refusal


def _ask(node: Node, path: str, timeout_s: float) -> httpx.Response:
    headers = {"X-ClusterOS-Ticket": make_ticket(node.secret, ASKER, time.time() + 60)}
    request = _client().build_request("GET", f"{node.store_url.rstrip('/')}/{path}", headers=headers, timeout=timeout_s)
    return _client().send(request, stream=True)


@lru_cache
def _client() -> httpx.Client:
    return httpx.Client(trust_env=False)


def _refusal(node: Node, answer: httpx.Response) -> Problem:
    with closing(answer), suppress(httpx.HTTPError):
        answer.read()
        words = answer.text[:500]
        if answer.status_code == 404:
            return Problem("NOT_FOUND", words)
        return Problem("UNSUPPORTED", f"{node.name}: {words}")
    return Problem("BUSY", f"{node.name} did not answer")
