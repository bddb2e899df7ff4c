"""Verbs on pods: start, end, freeze, thaw, signal, and what a restarted service does with those that it finds.

Each is idempotent by (run, epoch, pod). What takes long runs in the background, one act at a time per pod, and
leaves its result in the pod's record and in a report; a killed service finds both and goes on.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

from native.engine import EngineError
from nodes.agent import launch, processes, status, workdir
from nodes.agent.agent import Agent
from nodes.agent.durable import remove
from nodes.agent.records import STREAMS, PodRecord
from nodes.agent.spec import PodSpec, pod_key, take_int, take_spec, take_uuid

log = logging.getLogger(__name__)
RUN_TIMEOUT_S = 60.0
ASK_TIMEOUT_S = 15.0
END_TIMEOUT_S = 20.0
ENDED_WITH_SNAPSHOT = "ended after its snapshot"  # the engine's words
DAEMONS = frozenset({"clusteros-rsh", "podinit", "native", "orted", "prted", "hydra_pmi_proxy", "mpirun", "mpiexec", "prterun", "orterun"})


# ---- finding


def find(agent: Agent, body: dict[str, Any]) -> PodRecord | None:
    """The record that a body's run, epoch and pod name; None if there is none of that epoch."""
    key = pod_key(take_uuid(body, "run"), take_int(body, "pod", 0, 1 << 31))
    record = agent.records.get(key)
    return record if record and record.spec.epoch == body.get("epoch") else None


def report(agent: Agent, record: PodRecord) -> None:
    agent.report("pod", status.pod_report(record))


def fail(agent: Agent, record: PodRecord, error: EngineError) -> None:
    record.phase, record.code, record.message = "failed", error.code.name, error.message
    record.save()
    report(agent, record)


# ---- starting


def start(agent: Agent, body: dict[str, Any]) -> None:
    """A start_pod: take note of it durably, then start in the background."""
    spec = take_spec(body)
    agent.epochs.see(spec.job, spec.epoch)
    record, new = agent.records.make(spec, body, "starting")
    if not new and record.phase != "starting":
        report(agent, record)
        return
    agent.runner.start(f"pod:{record.key}", lambda: run_start(agent, record))


def end_older(agent: Agent, spec: PodSpec) -> None:
    """Pods of the job's older epochs end before anything of the newer one begins."""
    for record in agent.records.of_job(spec.job):
        if record.spec.epoch < spec.epoch:
            end_now(agent, record)


def run_start(agent: Agent, record: PodRecord) -> None:
    """A start, unless the end came first."""
    with record.lock:
        if not record.ending and record.phase == "starting":
            start_steps(agent, record)


def start_steps(agent: Agent, record: PodRecord) -> None:
    """The steps of a start. Killed anywhere, they are done again from the first."""
    spec = record.spec
    try:
        end_older(agent, spec)
        clear_half_made(agent, record)
        net = agent.networks.ensure(spec, agent.config.name)
        command = workdir.fill(record.pod_dir / "upper", spec, record.request, agent.front.download)
        write_inputs(record)
        agent.engine.call("run", *run_arguments(record, net), "--", *launch.command_line(command), timeout_s=RUN_TIMEOUT_S)
    except Exception as error:
        give_up_start(agent, record, as_outcome(error, "start the pod"))
    else:
        began(agent, record)


def as_outcome(error: Exception, what: str) -> EngineError:
    """Any fault as a row of the table: nobody waits for an answer that never comes."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, OSError):
        by_number = {errno.ENOSPC: "NO_SPACE", errno.EDQUOT: "NO_SPACE", errno.EACCES: "DENIED", errno.EPERM: "DENIED"}
        return EngineError(by_number.get(error.errno or 0, "OS"), f"{what}: {error}")
    log.error("%s: a fault of the node service's own", what, exc_info=error)
    return EngineError("BUG", f"{what}: {type(error).__name__}: {error}")


def clear_half_made(agent: Agent, record: PodRecord) -> None:
    """What a start that was killed half way left: nothing of it may run beside the new one."""
    if record.pod_dir.exists():
        kill(agent, record)
        remove(record.pod_dir)
    record.pod_dir.mkdir(mode=0o755)


def write_inputs(record: PodRecord) -> None:
    """Files that the engine reads, and the log files. No fsync: they matter only while this start goes on."""
    (record.folder / "env").write_bytes(launch.environment_file(record.spec))
    (record.folder / "hosts").write_bytes(launch.hosts(record.spec))
    for stream in STREAMS:
        record.log_path(stream).write_bytes(b"")


def run_arguments(record: PodRecord, net: str) -> list[str | Path]:
    spec = record.spec
    arguments: list[str | Path] = ["--pod", record.pod_dir, "--net", net, "--uid", str(spec.uid), "--gid", str(spec.gid)]
    arguments += ["--hostname", spec.hostname, "--hosts", record.folder / "hosts", "--env", record.folder / "env"]
    arguments += ["--workdir", spec.workdir]
    for stream in STREAMS:
        arguments += [f"--{stream}", record.log_path(stream)]
    if spec.mem_bytes:
        arguments += ["--mem", str(spec.mem_bytes)]
    return arguments


def give_up_start(agent: Agent, record: PodRecord, error: EngineError) -> None:
    """A clear failure, and nothing left running."""
    log.warning("pod %s was not started: %s", record.key, error)
    kill(agent, record)
    remove(record.pod_dir)
    fail(agent, record, error)


def began(agent: Agent, record: PodRecord) -> None:
    with record.lock:
        record.phase, record.started_at = "running", time.time()
        record.code, record.message = "OK", ""
        record.save()
    refresh(agent, record)
    report(agent, record)


# ---- watching


def refresh(agent: Agent, record: PodRecord) -> None:
    """See how a running pod is; a pod that ended is brought to its end, a keeper that died is replaced."""
    if record.phase != "running":
        return
    try:
        answer = status.ask_engine(agent, record)
        if answer and answer.get("state") != "ended" and answer.get("keeper_alive") is False:
            agent.engine.call("adopt", "--pod", record.pod_dir, timeout_s=ASK_TIMEOUT_S)
            answer = status.ask_engine(agent, record)
    except EngineError as error:
        log.warning("pod %s cannot be looked at: %s", record.key, error)
        return
    if answer is None or answer.get("state") == "ended":
        note_end(agent, record, answer)


def note_end(agent: Agent, record: PodRecord, answer: dict[str, Any] | None) -> None:
    """The pod is over: by its command, or it is gone."""
    if record.ending:
        return
    with record.lock:
        if record.phase != "running" or record.ending:
            return
        exit_status = status.shell_status(answer or {})
        reason = str((answer or {}).get("reason") or "the pod is not there any more")
        if exit_status is None and reason == ENDED_WITH_SNAPSHOT:
            record.phase, record.message, record.uploaded = "ended", reason, True
        elif exit_status is None:
            record.phase, record.code, record.message = "failed", "OS", reason
        else:
            record.phase, record.exit_status = "ended", exit_status
        record.save()
    report(agent, record)
    if record.phase == "ended":
        agent.runner.start(f"files:{record.key}", lambda: upload(agent, record))


# ---- files at the end


def upload(agent: Agent, record: PodRecord, deadline_s: float = 120.0) -> None:
    """Send the working directory's files to the front end, then the list of them. Once; may be asked for again."""
    with record.upload_lock:
        if not record.uploaded:
            _upload_all(agent, record, time.monotonic() + deadline_s)


def _upload_all(agent: Agent, record: PodRecord, deadline: float) -> None:
    upper = record.pod_dir / "upper"
    files = workdir.list_files(upper, record.spec)
    for entry in files:
        _upload_one(agent, record, upper, entry, deadline)
    name = {"run": record.spec.run, "epoch": record.spec.epoch, "pod": record.spec.pod}
    agent.report("files", {**name, "files": files})
    record.uploaded = True
    record.save()


def _upload_one(agent: Agent, record: PodRecord, upper: Path, entry: dict[str, Any], deadline: float) -> None:
    """The front end may be away for a while: try again until the deadline, then leave the file listed only."""
    pause_s = 0.2
    while True:
        try:
            with workdir.open_file(upper, record.spec, entry["path"]) as file:
                agent.front.upload(record.spec.run, record.spec.pod, entry["path"], file, entry["sha256"])
            return
        except (EngineError, OSError) as error:
            final = isinstance(error, EngineError) and error.code.name in ("DENIED", "NO_INPUT")
            if final or time.monotonic() + pause_s > deadline:
                log.warning("%s of pod %s was not uploaded: %s", entry["path"], record.key, error)
                return
        time.sleep(pause_s)
        pause_s = min(5.0, pause_s * 2)


# ---- ending


def end(agent: Agent, body: dict[str, Any]) -> None:
    """An end_pod: kill, report, remove. A pod that is not known here has ended."""
    key = pod_key(take_uuid(body, "run"), take_int(body, "pod", 0, 1 << 31))
    epoch, record = take_int(body, "epoch", 0, 1 << 62), agent.records.get_or_bury(key)
    if record is None:
        gone = {"run": body["run"], "epoch": epoch, "pod": body["pod"], "state": "ended", "exit_status": None}
        agent.report("pod", {**gone, "code": "OK", "message": "not known here"})
    elif record.spec.epoch > epoch:
        raise EngineError("STALE", f"pod {key} is of epoch {record.spec.epoch}, not {epoch}")
    else:
        mark_ending(record)
        agent.runner.start(f"end:{key}", lambda: end_now(agent, record, upload_files=bool(body.get("upload"))))


def mark_ending(record: PodRecord) -> None:
    """From here on nothing begins with this pod, also after a kill of the service."""
    if not record.ending:
        record.ending = True
        record.save()


def end_now(agent: Agent, record: PodRecord, *, upload_files: bool = False) -> None:
    """Kill the pod, send its files when its command had ended or they are asked for, forget it."""
    mark_ending(record)
    with record.lock:
        if agent.records.get(record.key) is not record:
            return
        kill(agent, record)
        if (upload_files or record.phase == "ended") and not record.uploaded and record.pod_dir.exists():
            upload(agent, record)
        if record.phase not in ("ended", "failed"):
            record.phase, record.message = "ended", "ended on request"
        report(agent, record)
        agent.logs.flush(record)
        remove_pod(agent, record)


def remove_pod(agent: Agent, record: PodRecord) -> None:
    agent.records.drop(record)
    if not agent.records.of_job(record.spec.job):
        try:
            agent.networks.remove(record.spec.job)
        except OSError as error:
            log.warning("network of job %s was not removed: %s", record.spec.job_number, error)


def kill(agent: Agent, record: PodRecord) -> None:
    """End the pod at once; a pod that is not there has ended, a dead keeper is replaced for it."""
    for verb in ("kill", "adopt", "kill"):
        try:
            agent.engine.call(verb, "--pod", record.pod_dir, timeout_s=END_TIMEOUT_S)
            if verb == "kill":
                return
        except EngineError as error:
            if error.code.name in ("NO_INPUT", "CONFLICT"):
                return
            log.warning("%s pod %s: %s", verb, record.key, error)


# ---- freeze, thaw, signal


def suspend(agent: Agent, record: PodRecord, suspended: bool) -> None:
    """The owner's own freezer; the lease's is the keeper's business."""
    if record.phase != "running" or record.ending:
        report(agent, record)
        return
    with record.lock:
        if record.phase == "running":
            agent.engine.call("freeze" if suspended else "thaw", "--pod", record.pod_dir, timeout_s=ASK_TIMEOUT_S)
            record.suspended = suspended
            record.save()
            status.ask_engine(agent, record)
    report(agent, record)


def send_signal(agent: Agent, record: PodRecord, number: int) -> None:
    """To every process of the job in the pod; not to what only carries it (remote execution, launchers' daemons)."""
    for process in processes.list_processes(record.pod_dir):
        if process.comm not in DAEMONS:
            _kill(process.outer, number)


def _kill(pid: int, number: int) -> None:
    """By pidfd, so that a number that was used again meanwhile is at least of the same instant."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


# ---- a service that starts anew


def recover(agent: Agent) -> None:
    """Go on with every pod that the records name, wherever the last service was killed."""
    for record in agent.records:
        if record.ending:
            agent.runner.start(f"end:{record.key}", partial(end_now, agent, record))
        elif record.phase == "starting":
            agent.runner.start(f"pod:{record.key}", partial(recover_start, agent, record))
        elif record.phase == "ended" and not record.uploaded:
            agent.runner.start(f"files:{record.key}", partial(upload, agent, record))
        elif record.phase == "running":
            refresh(agent, record)
            report(agent, record)  # the last service may have been killed before it could say so
    known = {record.spec.job for record in agent.records}
    for job in agent.networks.jobs():
        if job not in known:
            agent.networks.remove(job)


def recover_start(agent: Agent, record: PodRecord) -> None:
    """The pod of a start that was killed may run already."""
    with record.lock:
        try:
            answer = status.ask_engine(agent, record)
        except EngineError as error:
            give_up_start(agent, record, error)
            return
        if answer and answer.get("state") in ("running", "frozen", "ended"):
            began(agent, record)
        else:
            run_start(agent, record)
