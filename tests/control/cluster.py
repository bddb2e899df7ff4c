"""A cluster at the message border: nodes that exist as what they send. `Nodes` joins them, sends sealed reports through
the real task, and reads what the control side asked of them from the outbox; nothing of the control side is replaced.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import time
import uuid
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from checkpoints.clock.passes import Clock, tick
from checkpoints.models import Generation, Resume
from checkpoints.tasks import coordinate_cut, coordinate_restore
from clusteros.accounts.services import ensure_user
from clusteros.envelope import seal
from jobs.models import Job, Pod
from jobs.services import submit_job
from jobs.services.submit import JobRequest
from nodes.models import Command, Node
from nodes.services import join_node, make_join_token
from nodes.tasks import record, take_heartbeat

GIB = 1 << 30
_ticks = itertools.count(1)


class Nodes:
    """Some nodes. `pods[name]` is what each would list in its inventory: {(run, pod): report}."""

    def __init__(self, count: int = 3, cores: int = 4, mem_bytes: int = 8 * GIB) -> None:
        _, token = make_join_token()
        self.pods: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
        self.images: dict[str, set[str]] = {}
        for number in range(1, count + 1):
            name = f"node{number}"
            join_node(
                token, name=name, address=f"10.0.0.{number}", store_port=7800, store_url=f"http://10.0.0.{number}:7800",
                cores=cores, mem_bytes=mem_bytes, version="test",
            )  # fmt: skip
            self.pods[name], self.images[name] = {}, set()
        self.clock = Clock(leader_since=timezone.now() - timezone.timedelta(hours=1))
        self.clock.listening_since = self.clock.leader_since

    def report(self, name: str, kind: str, body: dict[str, Any], *, id: str | None = None, sent_at: float | None = None) -> dict[str, Any]:
        """Seal and deliver one report; the envelope, to send it again."""
        node = Node.objects.get(name=name)
        envelope = seal(name, node.secret, kind, body, id=id or str(uuid.uuid4()), sent_at=sent_at)
        record(envelope)
        return envelope

    def heartbeat(self, name: str, **more: Any) -> dict[str, Any] | None:
        """A heartbeat with the whole inventory; the lease answer."""
        node = Node.objects.get(name=name)
        body = {
            "boottime_ns": next(_ticks), "boot_id": "boot-1", "cores": node.cores, "mem_bytes": node.mem_bytes,
            "load1": 0.5, "pods": list(self.pods[name].values()),
            "images": [{"digest": digest, "bytes": 1000} for digest in self.images[name]], "unacked": [], **more,
        }  # fmt: skip
        opened = seal(name, node.secret, "heartbeat", body)
        return take_heartbeat(node, opened)

    def beat(self, *without: str) -> None:
        for name in self.pods:
            if name not in without:
                self.heartbeat(name)

    def tick(self) -> None:
        self.clock.slow_at = None
        tick(self.clock)

    def asked(self, kind: str, name: str | None = None) -> list[Command]:
        """Open commands of a kind to nodes that can hear, oldest first."""
        rows = Command.objects.filter(kind=kind, done_at=None).select_related("node").order_by("created_at")
        rows = rows.exclude(node__state="lost")
        return [row for row in rows if name is None or row.node.name == name]

    def pod_report(self, pod: Pod, state: str, **more: Any) -> dict[str, Any]:
        body = {"run": str(pod.run_id), "epoch": pod.run.epoch, "pod": pod.index, "state": state, **more}
        name = pod.node.name
        if state in ("ended", "failed"):
            self.pods[name].pop((str(pod.run_id), pod.index), None)
        else:
            self.pods[name][str(pod.run_id), pod.index] = {**body, "checkpointable": True, "obstacles": []}
        return self.report(name, "pod", body)

    def obey(self) -> None:
        """Do what is asked, as nodes would, until nothing is asked any more: start, end, prefetch, freeze, thaw."""
        for _ in range(10):
            if not self._obey_once():
                return

    def _obey_once(self) -> bool:
        did = False
        for row in self.asked("start_pod"):
            did = self.pod_report(self._pod(row), "running") is not None
        for row in self.asked("prefetch"):
            self.images[row.node.name] |= set(row.body["images"])
            self.report(row.node.name, "images", {"digests": row.body["images"], "failed": [], "fit": row.body.get("fit", "")})
            did = True
        for row in self.asked("freeze_pod"):
            did = self.pod_report(self._pod(row), "suspended") is not None
        for row in self.asked("thaw_pod"):
            did = self.pod_report(self._pod(row), "running") is not None
        for row in self.asked("end_pod"):
            did = self._end(row) or did
        return did

    def _end(self, row: Command) -> bool:
        pod = self._pod(row)
        if pod.state in ("ended", "failed"):
            Command.objects.filter(pk=row.pk).update(done_at=timezone.now(), outcome="gone")
            return False
        self.pod_report(pod, "ended")
        return True

    def _pod(self, row: Command) -> Pod:
        return Pod.objects.select_related("run", "node").get(run_id=row.body["run"], index=row.body["pod"])

    # ---- whole stories

    def run_job(self, owner: User | None = None, **values: Any) -> Job:
        """A job that runs: placed, started, its pods reported running and listed."""
        job = submit_job(owner or ensure_user("alice"), request(**values))
        self.tick()
        self.obey()
        self.beat()
        self.tick()
        job.refresh_from_db()
        assert job.state == "running", job.waiting_because
        return job

    def capture(self, generation: Generation, *, settle: bool = True) -> None:
        """Every pod prepares, captures, stores; then the replicas are fetched."""
        body = {"generation": str(generation.pk), "epoch": generation.epoch}
        for phase in ("prepared", "captured"):
            for snapshot in generation.snapshots.select_related("node"):
                self.report(snapshot.node.name, "cut", {**body, "pod": snapshot.pod, "phase": phase})
        self.go(generation)
        for snapshot in generation.snapshots.select_related("node"):
            self.store(generation, snapshot.pod, snapshot.node.name)
        if settle:
            self.tick()
            self.obey()
            generation.refresh_from_db()
            assert generation.state == "complete", generation.reason

    def go(self, generation: Generation) -> str:
        from checkpoints.services import decide_cut

        return decide_cut(Generation.objects.get(pk=generation.pk), "go")

    def store(self, generation: Generation, pod: int, name: str, **more: Any) -> dict[str, Any]:
        digest = digest_of(generation, pod)
        self.images[name].add(digest)
        return self.report(name, "snapshot", {
            "generation": str(generation.pk), "epoch": generation.epoch, "pod": pod, "ok": True, "digest": digest,
            "bytes": 5000, "bytes_new": 4000, "pause_ms": 12.5, "took_ms": 80.0,
            "log_marks": {"stdout": 10 * generation.number, "stderr": 0}, **more,
        })  # fmt: skip

    def generation(self, job: Job) -> Generation:
        from checkpoints.services import take_generation

        taken = take_generation(job)
        self.capture(taken)
        return taken

    def restore_all(self, resume: Resume) -> None:
        """Every pod of the restore gets ready, the decision is go, every pod runs."""
        from checkpoints.services.resuming import decide_restore

        rows = self.asked("restore_pod")
        for row in rows:
            self.report(row.node.name, "restored", {**_name(row), "phase": "ready", "took_ms": 5})
        assert decide_restore(resume.pk, "go") == "go"
        for row in rows:
            self.report(row.node.name, "restored", {**_name(row), "phase": "running", "took_ms": 9})
            self.pod_report(self._pod(row), "running")
        self.tick()

    def finish(self, resume: Resume) -> Resume:
        """Carry a resume to its end."""
        for _ in range(12):
            self.tick()
            resume.refresh_from_db()
            if resume.state == "restoring":
                self.restore_all(resume)
            elif resume.safety is not None and resume.safety.state == "taking":
                self.capture(resume.safety)
            elif resume.generation is not None and resume.generation.state == "taking":
                self.capture(resume.generation)
            elif not resume.open:
                break
            self.obey()
        resume.refresh_from_db()
        return resume


def _name(row: Command) -> dict[str, Any]:
    return {key: row.body[key] for key in ("run", "epoch", "pod")}


def request(**values: Any) -> JobRequest:
    return JobRequest(**{"command": ["./program"], "pods": 3, "mem_bytes": 64 << 20, **values})


def digest_of(generation: Generation, pod: int) -> str:
    return hashlib.sha256(f"{generation.pk}:{pod}".encode()).hexdigest()


def log_body(pod: Pod, offset: int, data: bytes, stream: str = "stdout") -> dict[str, Any]:
    return {
        "run": str(pod.run_id), "epoch": pod.run.epoch, "pod": pod.index, "stream": stream, "offset": offset,
        "data": base64.b64encode(data).decode(),
    }  # fmt: skip


def later(seconds: float) -> float:
    return time.time() + seconds


__all__ = ["GIB", "Nodes", "coordinate_cut", "coordinate_restore", "digest_of", "later", "log_body", "request"]
