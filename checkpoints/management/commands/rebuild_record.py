"""`manage.py rebuild_record`: after the loss of the database, once the nodes have joined again: ask every node for the
certificates that it keeps, and make jobs and generations anew from them.
"""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError, CommandParser

from checkpoints.models import Replica, Snapshot
from checkpoints.services.rebuilding import rebuild_from
from checkpoints.services.stores import ask_store
from nodes.models import Node

TIMEOUT_S = 20.0
JOIN_WAIT_S = 90.0
REPLICAS_WAIT_S = 15.0


class Command(BaseCommand):
    help = "Make the record of jobs and generations anew from the certificates on the nodes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--nodes", type=int, default=0, help=f"wait, at most {JOIN_WAIT_S:.0f} s, until so many nodes are up")

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + (JOIN_WAIT_S if options["nodes"] else 0)
        _wait_for_nodes(options["nodes"], deadline)
        found: dict[str, list[Any]] = {}
        for node in Node.objects.exclude(state="lost"):
            try:
                found[node.name] = _ask(node, deadline)
            except (httpx.HTTPError, ValueError) as error:
                self.stderr.write(f"{node.name} was not asked: {error}")
        counts = rebuild_from(found)
        _wait_for_replicas()
        self.stdout.write(json.dumps({"nodes": sorted(found), **counts}))
        if len(found) < options["nodes"]:
            raise CommandError(f"{len(found)} of {options['nodes']} nodes were asked: run it again when the others are up")


def _wait_for_nodes(wanted: int, deadline: float) -> None:
    while Node.objects.filter(state="up").count() < wanted and time.monotonic() < deadline:
        time.sleep(0.5)


def _wait_for_replicas() -> None:
    """Until the nodes' next heartbeats have told what they hold: only then can a generation be brought back."""
    deadline = time.monotonic() + REPLICAS_WAIT_S
    known = Replica.objects.filter(complete=True).values("digest")
    while Snapshot.objects.filter(generation__state="complete").exclude(digest__in=known).exists() and time.monotonic() < deadline:
        time.sleep(0.2)


def _ask(node: Node, deadline: float) -> list[Any]:
    """A node that has only just joined may not serve its store yet."""
    while True:
        try:
            return _certificates_of(node)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _certificates_of(node: Node) -> list[Any]:
    response = ask_store(node, "certificates", timeout=TIMEOUT_S)
    response.raise_for_status()
    answer = response.json()
    listed = answer.get("certificates", []) if isinstance(answer, dict) else answer
    return [item.get("certificate", item) for item in listed if isinstance(item, dict)]
