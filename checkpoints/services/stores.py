"""Asking a node's store (nodes/agent/storeserver.py) from the control side: by a ticket, as nodes ask each other."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from functools import lru_cache
from typing import Any

import httpx

from checkpoints.models import Snapshot
from checkpoints.services.replicas import holders
from clusteros.core.problems import Problem
from clusteros.envelope import make_ticket
from nodes.models import Node

ASKER = "front"
TICKET_S = 60.0


def ask_store(
    node: Node, path: str, *, timeout: httpx.Timeout | float, method: str = "GET", stream: bool = False, image: str = "", **body: Any
) -> httpx.Response:
    """Its answer, whatever the status; `image`: whose chunks are asked for; `body` as httpx has it (json, content). httpx.HTTPError: there
    was none. No database in here."""
    headers = {"X-ClusterOS-Ticket": make_ticket(node.secret, ASKER, time.time() + TICKET_S), "X-ClusterOS-Image": image}
    request = _client().build_request(method, f"{node.store_url.rstrip('/')}/{path}", headers=headers, timeout=timeout, **body)
    return _client().send(request, stream=stream)


def ask_holders(snapshot: Snapshot, what: str, *, timeout: httpx.Timeout | float) -> httpx.Response:
    """`what` of a pod's image, as a stream from the first holder that has it; the caller reads and closes it. Problem: none has."""
    return ask_first(holders(snapshot.digest), snapshot.pod, f"images/{snapshot.digest}/{what}", timeout=timeout)


def ask_first(
    nodes: list[Node], pod: int, path: str, *, timeout: httpx.Timeout | float, method: str = "GET", **body: Any
) -> httpx.Response:
    """The same from these nodes, for who must not ask the database."""
    refusal = Problem("LOST", f"no node that is up holds the image of pod {pod}")
    for node in nodes:
        try:
            answer = ask_store(node, path, timeout=timeout, method=method, stream=True, **body)
        except httpx.HTTPError as fault:
            refusal = Problem("BUSY", f"{node.name} did not answer: {fault}")
            continue
        if answer.status_code == 200:
            return answer
        refusal = _refusal(node, answer)
    raise refusal


def _refusal(node: Node, answer: httpx.Response) -> Problem:
    with closing(answer), suppress(httpx.HTTPError):
        answer.read()
        words = answer.text[:500]
        if answer.status_code == 404:
            return Problem("NOT_FOUND", words)
        return Problem("UNSUPPORTED", f"{node.name}: {words}")
    return Problem("BUSY", f"{node.name} did not answer")


@lru_cache
def _client() -> httpx.Client:
    return httpx.Client(trust_env=False)
