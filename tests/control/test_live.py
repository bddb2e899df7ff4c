"""Live events on a real Redis: they arrive in the groups of what they tell of, and never keep a process from ending."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from channels.layers import get_channel_layer

from clusteros.core import live


def test_an_event_arrives_in_every_group_that_it_concerns(servers: None) -> None:
    async def listen() -> dict[str, object]:
        layer = get_channel_layer()
        await layer.group_add("job-7e57", "test-listener")
        live.publish({"id": 1, "kind": "job.running", "job": "7e57", "owner_id": 1, "node": ""})
        return dict(await asyncio.wait_for(layer.receive("test-listener"), 20))

    message = asyncio.run(listen())
    assert message["type"] == "cluster.event"
    assert message["event"]["kind"] == "job.running"  # type: ignore[index]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0"])
def test_a_process_that_told_something_ends_even_when_redis_is_away(url: str) -> None:
    program = "import django; django.setup()\nfrom clusteros.core import live\nlive.publish({'id': 1})"
    environment = {"CLUSTEROS_REDIS_URL": url, "DJANGO_SETTINGS_MODULE": "clusteros.settings", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=100, capture_output=True)
