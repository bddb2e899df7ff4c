"""Running a command in a pod for its owner, outside of the job's own processes."""

from __future__ import annotations

from typing import Any

from native.engine import EngineError
from nodes.agent import pods
from nodes.agent.agent import Agent
from nodes.agent.spec import bad, take_uuid

OUTPUT_MAX_BYTES = 256 << 10


def run(agent: Agent, body: dict[str, Any]) -> None:
    """An exec_pod: in the background; the output comes back as a report."""
    record, exec_id, argv = pods.find(agent, body), take_uuid(body, "id"), body.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(a, str) and "\0" not in a for a in argv):
        raise bad("argv is not a list of texts")
    if record is None or record.phase != "running":
        raise EngineError("CONFLICT", "the pod does not run here")
    timeout_s = min(600.0, max(0.1, float(body.get("timeout_s") or 60.0)))

    def work() -> None:
        status, output = agent.engine.exec_in_pod(record.pod_dir, argv, timeout_s, OUTPUT_MAX_BYTES)
        agent.report("exec", {"id": exec_id, "exit_status": status, "output": output.decode(errors="replace")})

    agent.runner.start(f"exec:{exec_id}", work)
