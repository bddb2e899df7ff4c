"""A pod's part of a generation: the cut with its two barriers, the image, the report.

snapshots/GENERATION-POD.json is written before the engine is asked and holds the report at the end, so that a message
that comes twice is answered with the same report, and a service that was killed in between asks the keeper what
became of it. The engine aborts by itself when this service dies before `go`, and finishes by itself after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from native.engine import Act, EngineError, Event, failure_of
from nodes.agent import barrier, pods
from nodes.agent.agent import Agent
from nodes.agent.durable import read_json, remove, write_json
from nodes.agent.records import STREAMS, PodRecord
from nodes.agent.spec import bad, take_digest, take_int, take_uuid
from nodes.agent.urgent import going_first

log = logging.getLogger(__name__)
WRITE_TIMEOUT_S = 3600.0
PREPARE_MIN_S = 5.0
DEADLINE_MAX_S = 280.0
KEPT = 200
Body = dict[str, Any]


def key_of(body: Body) -> str:
    return f"{take_uuid(body, 'generation')}-{take_int(body, 'pod', 0, 1 << 31)}"


def note_path(agent: Agent, key: str) -> Path:
    return agent.config.folder("snapshots") / f"{key}.json"


def unsettled(agent: Agent) -> bool:
    """Whether some snapshot may still be writing its chunks."""
    return any("report" not in (read_json(path) or {}) for path in agent.config.folder("snapshots").glob("*.json"))


def take(agent: Agent, body: Body) -> None:
    """A snapshot_pod: answered at once when it was done before, else taken in the background."""
    key, record = key_of(body), pods.find(agent, body)
    note = read_json(note_path(agent, key))
    if note and "report" in note:
        agent.report("snapshot", note["report"])
        return
    if note is None and (record is None or record.phase != "running"):
        raise EngineError("CONFLICT", "the pod does not run here")
    if body.get("then", "run") not in ("run", "stop", "kill"):
        raise bad("then is not run, stop or kill")
    if record is not None:
        agent.runner.start(f"pod:{record.key}", lambda: run(agent, record, body, key))


def run(agent: Agent, record: PodRecord, body: Body, key: str) -> None:
    """The steps of a snapshot; its outcome, good or bad, is a report."""
    started, when = time.monotonic(), {}
    try:
        write_json(note_path(agent, key), {"body": body, "pod_key": record.key})
        remove(agent.images.taking(key, record.spec.owner))
        with agent.images.adding():
            done = cut(agent, record, body, key)
            when = done["timeline"]
            report = success(agent, record, body, key, done, started)
    except Exception as error:
        report = failure(agent, record, body, key, pods.as_outcome(error, "take the snapshot"))
    settle(agent, key, body, report, when)
    forget_result(agent, record, key)
    if body.get("then") in ("stop", "kill"):
        pods.refresh(agent, record)


def cut(agent: Agent, record: PodRecord, body: Body, key: str) -> Event:
    """Engine and barriers: `prepared`, stop, `captured`, go, done."""
    deadline_s = min(DEADLINE_MAX_S, max(1.0, float(body.get("deadline_s") or 30.0)))
    deadline = time.monotonic() + deadline_s
    generation, epoch, pod = take_uuid(body, "generation"), record.spec.epoch, record.spec.pod
    client, prefix = barrier.connect(agent.config.barrier_url), f"cut:{generation}:{epoch}:"
    others, size = barrier.Barrier(client, prefix, pod, deadline, given_up=lambda: record.ending), take_int(body, "pods", 1, 1 << 31)
    tell = partial(say_phase, agent, record, generation)
    at: dict[str, float] = {"asked": time.monotonic()}
    with agent.engine.start("snapshot", *arguments(agent, record, body, key)) as act:
        act.until("prepared", timeout_s=max(PREPARE_MIN_S, deadline_s))
        at["prepared"] = time.monotonic()
        with going_first() as ease:
            if not others.all_in("prepared", size, long=lambda: (ease(), tell("prepared"))):
                raise aborted(act, "not all pods were prepared in time, or the generation was given up")
            at["say_stop"] = time.monotonic()
            act.say("stop")
            act.until("captured", timeout_s=max(PREPARE_MIN_S, deadline - time.monotonic()))
            at["heard_captured"] = time.monotonic()
            if not may_run_on(others, body, size, long=lambda: (ease(), tell("captured"))):
                raise aborted(act, "the generation was given up, or no word came in time")
            at["say_go"] = time.monotonic()
            act.say("go")
        if size == 1:
            others.enter("captured", "came")
        done = act.done(WRITE_TIMEOUT_S)
        return {**done, "warnings": act.warnings or done.get("warnings", []), "timeline": timeline(at, done)}


def may_run_on(others: barrier.Barrier, body: Body, size: int, long: Callable[[], object]) -> bool:
    """Wait until every pod is captured: whoever runs on then spoils no other's cut, whatever becomes of the generation.

    A pod that is not to run on waits for the decision in the record (decision 68)."""
    if body.get("then", "run") == "run":
        return others.all_in("captured", size, long, bell="came")
    return others.verdict("captured", long)


def timeline(at: dict[str, float], done: Event) -> dict[str, float]:
    """When each step of the cut was done, in seconds of this machine's monotonic clock: for whoever looks where a pause goes."""
    inside = done.get("timeline_ns") or {}
    return at | {f"engine_{name}": int(ns) / 1e9 for name, ns in inside.items()}


def arguments(agent: Agent, record: PodRecord, body: Body, key: str) -> list[str | Path]:
    place = agent.images.of(record.spec.owner)
    found: list[str | Path] = ["--pod", record.pod_dir, "--image", agent.images.taking(key, record.spec.owner), "--store", place.store]
    found += ["--then", str(body.get("then", "run")), "--barrier"]
    parent = body.get("parent")
    if parent and place.has(take_digest(parent)):  # one of an older layout lies in another store
        found += ["--parent", place.path(parent)]
    return found


def aborted(act: Act, words: str) -> EngineError:
    """Tell the engine, let it put everything back, and say why."""
    act.say("abort")
    try:
        act.done(timeout_s=60.0)
    except EngineError as error:
        if error.code.name != "ABORTED":
            return error
    return EngineError("ABORTED", words)


def say_phase(agent: Agent, record: PodRecord, generation: str, phase: str) -> None:
    """Who waits, for the record; said only when it takes long: in the pause every message costs the job time."""
    agent.outbox.say("cut", {"generation": generation, "epoch": record.spec.epoch, "pod": record.spec.pod, "phase": phase})


# ---- outcomes


def success(agent: Agent, record: PodRecord, body: Body, key: str, done: Event, started: float) -> Body:
    facts = {"bytes": done.get("bytes", 0), "generation": body["generation"], "job": record.spec.job, "pod": record.spec.pod}
    digest = agent.images.adopt(agent.images.taking(key, record.spec.owner), **facts)
    if done.get("digest") not in (None, digest):
        raise EngineError("BUG", f"the engine named its image {done.get('digest')}, it is {digest}")
    marks = done.get("log_marks") or {}
    return {
        **name_of(record, body),
        "ok": True,
        "digest": digest,
        "bytes": done.get("bytes", 0),
        "bytes_new": done.get("bytes_new", 0),
        "pause_ms": done.get("pause_ms"),
        "took_ms": done.get("took_ms") or round((time.monotonic() - started) * 1000, 1),
        "log_marks": {stream: record.log_base[stream] + int(marks.get(stream, 0)) for stream in STREAMS},
        "certificate": None,
        "code": "OK",
        "message": "",
        "warnings": done.get("warnings") or [],
    }


def failure(agent: Agent, record: PodRecord, body: Body, key: str, error: EngineError) -> Body:
    log.warning("snapshot of pod %s: %s", record.key, error)
    remove(agent.images.taking(key, record.spec.owner))
    return {**name_of(record, body), "ok": False, "code": error.code.name, "message": error.message, "warnings": []}


def name_of(record: PodRecord, body: Body) -> Body:
    spec = record.spec
    return {"generation": body["generation"], "run": spec.run, "epoch": spec.epoch, "pod": spec.pod}


def settle(agent: Agent, key: str, body: Body, report: Body, when: dict[str, float] | None = None) -> None:
    """Keep the outcome with the note, then report it; the oldest notes go."""
    write_json(note_path(agent, key), {"body": body, "report": report, "timeline": when or {}})
    agent.report("snapshot", report)
    notes = sorted(agent.config.folder("snapshots").glob("*.json"), key=lambda p: p.stat().st_mtime)
    for path in notes[:-KEPT]:
        remove(path)


# ---- a service that starts anew


def recover(agent: Agent) -> None:
    """Snapshots whose outcome nobody heard: the keeper kept it, or the engine is still at it."""
    for path in agent.config.folder("snapshots").glob("*.json"):
        note = read_json(path) or {}
        record = agent.records.get(str(note.get("pod_key")))
        if "report" in note or "body" not in note:
            continue
        if record is None:
            remove(path)
        else:
            agent.runner.start(f"pod:{record.key}", partial(ask_again, agent, record, note["body"], path.stem))


def ask_again(agent: Agent, record: PodRecord, body: Body, key: str, patience_s: float = 600.0) -> None:
    """Wait for the engine's last line; the image may have got its name already."""
    started = time.monotonic()
    try:
        with agent.images.adding():
            done = wait_for_result(agent, record, key, started + patience_s)
            report = success(agent, record, body, key, named(agent, record, key, done), started)
    except Exception as error:
        report = failure(agent, record, body, key, pods.as_outcome(error, "take the snapshot"))
    settle(agent, key, body, report)
    forget_result(agent, record, key)


def wait_for_result(agent: Agent, record: PodRecord, key: str, deadline: float) -> Event:
    while (done := kept_result(agent, record, key)) is None:
        if time.monotonic() > deadline:
            raise EngineError("BUSY", "the engine did not finish the snapshot in time")
        time.sleep(0.5)
    return done


def named(agent: Agent, record: PodRecord, key: str, result: Event) -> Event:
    """The result; a kill between naming the image and keeping the report is made good by looking the name up."""
    digest, taking = result.get("digest"), agent.images.taking(key, record.spec.owner)
    if digest and agent.images.has(str(digest)) and not taking.exists():
        agent.images.path(str(digest)).rename(taking)
    return result


def kept_result(agent: Agent, record: PodRecord, key: str) -> Event | None:
    """What the keeper kept of the act that wrote this image; None while the engine is still at it.

    EngineError: the act failed, or there is none and there will be none.
    """
    at_work = (record.pod_dir / "act").exists()
    answer = agent.engine.call("result", "--pod", record.pod_dir, timeout_s=pods.ASK_TIMEOUT_S)
    kept = pick_result(answer, str(agent.images.taking(key, record.spec.owner)))
    if kept is None and not at_work:
        raise EngineError("ABORTED", "the node service was killed before the snapshot was decided")
    if kept is not None and kept["result"].get("event") == "failed":
        raise failure_of(kept["result"])
    return None if kept is None else dict(kept["result"])


def pick_result(answer: Event, image: str) -> Event | None:
    """Of the kept results the one of the snapshot into `image`."""
    for kept in answer.get("results") or []:
        if kept.get("verb") == "snapshot" and image in kept.get("args", []) and isinstance(kept.get("result"), dict):
            return dict(kept)
    return None


def forget_result(agent: Agent, record: PodRecord, key: str) -> None:
    """The outcome is ours now: the keeper need not keep it. Left behind, it does no harm."""
    with suppress(EngineError):
        answer = agent.engine.call("result", "--pod", record.pod_dir, timeout_s=pods.ASK_TIMEOUT_S)
        kept = pick_result(answer, str(agent.images.taking(key, record.spec.owner)))
        if kept:
            agent.engine.call("result", "--pod", record.pod_dir, "--ack", str(kept["id"]), timeout_s=pods.ASK_TIMEOUT_S)
