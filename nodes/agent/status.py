"""What the engine says of a pod, and the report that is made of it."""

from __future__ import annotations

from typing import Any

from native.engine import EngineError
from nodes.agent import processes
from nodes.agent.agent import Agent
from nodes.agent.records import STREAMS, PodRecord

STAT_TIMEOUT_S = 10.0


def ask_engine(agent: Agent, record: PodRecord) -> dict[str, Any] | None:
    """`native stat` of the pod, kept in record.live; None when the engine knows no such pod."""
    try:
        answer = agent.engine.call("stat", "--pod", record.pod_dir, timeout_s=STAT_TIMEOUT_S)
    except EngineError as error:
        if error.code.name == "NO_INPUT":
            return None
        raise
    record.live.update(answer, processes=processes.as_report(processes.list_processes(record.pod_dir)))
    return answer


def reported_state(record: PodRecord) -> str:
    """The state of docs/protocol.md."""
    if record.phase == "running":
        if record.suspended:
            return "suspended"
        return "frozen" if record.live.get("state") == "frozen" else "running"
    return "starting" if record.phase in ("starting", "restoring") else record.phase


def pod_report(record: PodRecord) -> dict[str, Any]:
    """The whole report of a pod, of what is known now."""
    spec, live = record.spec, record.live
    listed = live.get("processes")
    return {
        "job": spec.job,
        "job_number": spec.job_number,
        "run": spec.run,
        "epoch": spec.epoch,
        "pod": spec.pod,
        "state": reported_state(record),
        "exit_status": record.exit_status,
        "code": record.code,
        "message": record.message,
        "processes": listed,
        "pids": None if listed is None else len(listed),
        "mem_bytes": live.get("mem_bytes"),
        "cpu_s": live.get("cpu_s"),
        "checkpointable": live.get("checkpointable"),
        "obstacles": live.get("obstacles"),
        "started_at": record.started_at,
        "log": {stream: record.log_base[stream] + log_bytes(record, stream) for stream in STREAMS},
    }


def log_bytes(record: PodRecord, stream: str) -> int:
    try:
        return record.log_path(stream).stat().st_size
    except OSError:
        return 0


def shell_status(answer: dict[str, Any]) -> int | None:
    """The shell's convention for how COMMAND ended; None if it did not end by itself."""
    status = answer.get("exit_status")
    return status if isinstance(status, int) and not isinstance(status, bool) and status >= 0 else None
