"""A pod of a run that grows from a generation: brought back from its image, released with all others at once.

The image must be held whole here (a prefetch went before); it is fetched now if it is not. The network stays locked
from the start to the `go`. A restore that this service does not live to release is aborted by the engine, and
reported as failed by the next service; the control side then tries with a newer epoch.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from native.engine import EngineError
from nodes.agent import barrier, launch, pods, prefetching, processes, status
from nodes.agent.agent import Agent
from nodes.agent.durable import remove
from nodes.agent.records import STREAMS, PodRecord
from nodes.agent.spec import take_digest, take_spec

log = logging.getLogger(__name__)
READY_TIMEOUT_S = 240.0
RELEASE_TIMEOUT_S = 60.0
VERDICT_MAX_S = 240.0
Body = dict[str, Any]


def restore(agent: Agent, body: Body) -> None:
    """A restore_pod: take note of it durably, then restore in the background."""
    spec = take_spec(body)
    take_digest(body.get("image"))
    agent.epochs.see(spec.job, spec.epoch)
    record, new = agent.records.make(spec, body, "restoring")
    if new:
        record.log_base = log_base(body)
        record.save()
    elif record.phase != "restoring":
        say_again(agent, record)
        return
    agent.runner.start(f"pod:{record.key}", lambda: run(agent, record))


def log_base(body: Body) -> dict[str, int]:
    marks = body.get("log_marks") or {}
    return {stream: max(0, int(marks.get(stream) or 0)) for stream in STREAMS}


def say_again(agent: Agent, record: PodRecord) -> None:
    """The outcome of a restore that is over."""
    phase = "failed" if record.phase == "failed" else "running"
    say(agent, record, phase, 0.0, record.code, record.message)


def say(agent: Agent, record: PodRecord, phase: str, took_ms: float, code: str = "OK", message: str = "") -> None:
    spec = record.spec
    name = {"run": spec.run, "epoch": spec.epoch, "pod": spec.pod}
    agent.report("restored", {**name, "phase": phase, "took_ms": round(took_ms, 1), "code": code, "message": message})


def run(agent: Agent, record: PodRecord) -> None:
    """A restore, unless the end came first."""
    with record.lock:
        if not record.ending and record.phase == "restoring":
            restore_steps(agent, record, time.monotonic())


def restore_steps(agent: Agent, record: PodRecord, started: float) -> None:
    """The steps of a restore."""
    try:
        pods.end_older(agent, record.spec)
        prefetching.fetch(agent, take_digest(record.request["image"]), record.request.get("sources") or [], owner=record.spec.owner)
        pods.clear_half_made(agent, record)
        net = agent.networks.ensure(record.spec, agent.config.name)
        write_inputs(record)
        bring_back(agent, record, net, started)
    except Exception as error:
        give_up(agent, record, pods.as_outcome(error, "restore the pod"), started)
    else:
        pods.began(agent, record)
        say(agent, record, "running", (time.monotonic() - started) * 1000)


def write_inputs(record: PodRecord) -> None:
    """Empty log files: the stream goes on at its mark. The engine makes the pod's folder itself."""
    remove(record.pod_dir)
    (record.folder / "hosts").write_bytes(launch.hosts(record.spec))
    for stream in STREAMS:
        record.log_path(stream).write_bytes(b"")


def arguments(agent: Agent, record: PodRecord, net: str) -> list[str | Path]:
    image = str(record.request["image"])
    place = agent.images.place(image)
    found: list[str | Path] = ["--image", place.path(image), "--digest", image, "--store", place.store]
    found += ["--pod", record.pod_dir, "--net", net, "--barrier"]
    found += ["--uid", str(record.spec.uid), "--gid", str(record.spec.gid), "--hosts", record.folder / "hosts"]
    for stream in STREAMS:
        found += [f"--{stream}", record.log_path(stream)]
    if record.request.get("files_policy") in ("refuse", "restore"):  # open files that no image carries and that have changed since
        found += ["--files", str(record.request["files_policy"])]
    return [*found, "--lazy"] if is_worth_lazy(agent, image) else found


def is_worth_lazy(agent: Agent, image: str) -> bool:
    """Does the job run before its memory is there? Not small ones, and not where the engine could not do it anyway."""
    return os.geteuid() == 0 and 0 < agent.config.lazy_restore_bytes <= agent.images.bytes_of(image)


def bring_back(agent: Agent, record: PodRecord, net: str, started: float) -> None:
    """Engine and barrier: `ready`, the verdict, go."""
    deadline_s = min(VERDICT_MAX_S, float(record.request.get("deadline_s") or 120.0))
    spec = record.spec
    client, prefix = barrier.connect(agent.config.barrier_url), f"restore:{spec.run}:{spec.epoch}:"
    others = barrier.Barrier(client, prefix, spec.pod, started + deadline_s, given_up=lambda: record.ending)
    with agent.engine.start("restore", *arguments(agent, record, net)) as act:
        act.until("ready", timeout_s=READY_TIMEOUT_S)
        rewrite_job_file(agent, record)
        say(agent, record, "ready", (time.monotonic() - started) * 1000)
        if not others.verdict("ready"):
            act.say("abort")
            raise EngineError("ABORTED", "the restore was given up, or no word came in time")
        act.say("go")
        act.done(RELEASE_TIMEOUT_S)
    for words in act.warnings:
        log.warning("pod %s: %s", record.key, words)


def rewrite_job_file(agent: Agent, record: PodRecord) -> None:
    """CLUSTEROS_JOB_FILE tells the present run. Through the pod's own view of its root: the overlay is mounted."""
    generation = record.request.get("generation")
    content = launch.job_file(record.spec, str(generation) if generation else None)
    root = pod_root(record)
    if root is None:
        log.warning("the job file of pod %s was not renewed", record.key)
        return
    target = root / launch.JOB_FILE.lstrip("/")
    with suppress(FileNotFoundError):
        temporary = target.with_name(".job.json.new")
        temporary.write_bytes(content)
        temporary.chmod(0o644)
        os.replace(temporary, target)


def pod_root(record: PodRecord) -> Path | None:
    """/proc/INIT/root of the pod."""
    init = processes.init_pid(record.pod_dir)
    return Path(f"/proc/{init}/root") if init > 1 else None


def give_up(agent: Agent, record: PodRecord, error: EngineError, started: float) -> None:
    """Nothing of it is left; the control side decides what next."""
    log.warning("pod %s was not restored: %s", record.key, error)
    pods.kill(agent, record)
    remove(record.pod_dir)
    record.phase, record.code, record.message = "failed", error.code.name, error.message
    record.save()
    say(agent, record, "failed", (time.monotonic() - started) * 1000, error.code.name, error.message)


def recover(agent: Agent) -> None:
    """Restores that a killed service left: released just before, or aborted by the engine."""
    for record in agent.records:
        if record.phase == "restoring" and not record.ending:
            agent.runner.start(f"pod:{record.key}", partial(recover_one, agent, record))


def recover_one(agent: Agent, record: PodRecord) -> None:
    with record.lock:
        started = time.monotonic()
        try:
            answer = status.ask_engine(agent, record)
        except EngineError as error:
            give_up(agent, record, error, started)
            return
        if answer and answer.get("state") in ("running", "frozen"):
            pods.began(agent, record)
            say(agent, record, "running", 0.0)
        else:
            give_up(agent, record, EngineError("ABORTED", "the node service was killed during the restore"), started)
