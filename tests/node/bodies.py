"""Message bodies for the tests of the node service: one builder, changed where a test needs it."""

from __future__ import annotations

import uuid
from typing import Any

JOB = "11111111-1111-4111-8111-111111111111"


def spec_body(**changes: Any) -> dict[str, Any]:
    """A pod spec of one pod of its own, as the control side sends it."""
    body = {
        "job": JOB,
        "job_number": 1,
        "run": str(uuid.uuid4()),
        "epoch": 1,
        "pod": 0,
        "pods": [{"pod": 0, "node": "node1", "underlay_ip": "192.0.2.1", "ip": "10.77.0.1"}],
        "hostname": "pod-0",
        "uid": 20000,
        "gid": 20000,
        "user": "someone",
        "mem_bytes": 0,
        "cores": 1,
        "ranks_per_pod": 2,
        "env": {},
        "workdir": "/home/someone/job-1",
        "vni": 1,
        "mtu": 1450,
        "owner": "0f" * 16,
    }
    return {**body, **changes}
