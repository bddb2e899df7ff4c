"""`manage.py rebuild_record`: after the loss of the database, once the nodes have joined again: ask every node for the
certificates that it keeps, and make jobs and generations anew from them.
"""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
from django.core.management.base import BaseCommand

from checkpoints.services.rebuilding import rebuild_from
from clusteros.envelope import make_ticket
from nodes.models import Node

TIMEOUT_S = 20.0
ASKER = "front"


class Command(BaseCommand):
    help = "Make the record of jobs and generations anew from the certificates on the nodes."

    def handle(self, *args: Any, **options: Any) -> None:
        found: dict[str, list[Any]] = {}
        for node in Node.objects.exclude(state="lost"):
            try:
                found[node.name] = _certificates_of(node)
            except (httpx.HTTPError, ValueError) as error:
                self.stderr.write(f"{node.name} was not asked: {error}")
        counts = rebuild_from(found)
        self.stdout.write(json.dumps({"nodes": sorted(found), **counts}))


def _certificates_of(node: Node) -> list[Any]:
    ticket = make_ticket(node.secret, ASKER, time.time() + 60)
    headers = {"X-ClusterOS-Ticket": ticket}
    url = f"{node.store_url.rstrip('/')}/certificates"
    response = httpx.get(url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    response.raise_for_status()
    answer = response.json()
    listed = answer.get("certificates", []) if isinstance(answer, dict) else answer
    return [item.get("certificate", item) for item in listed if isinstance(item, dict)]
