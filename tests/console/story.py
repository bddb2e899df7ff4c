"""A job with a past, told at the message border: generations, one that failed, a rollback, and then some more."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from checkpoints.models import Generation, Resume
from checkpoints.services import pin_generation, resume_run, take_generation
from jobs.models import Job, Pod
from tests.control.cluster import Nodes, log_body


class Story:
    """`told()` makes all of it; the steps are there for tests that need less."""

    def __init__(self, nodes: Nodes, owner: User, **asked: Any) -> None:
        self.nodes, self.owner = nodes, owner
        self.asked = {"name": "heat-city", "command": ["mpirun", "./heat", "city.png"], "ranks_per_pod": 1, **asked}
        self.job: Job
        self.failed: Generation

    def start(self) -> Job:
        self.job = self.nodes.run_job(self.owner, **self.asked)
        return self.job

    def print(self, text: str, *, pod: int = 0, stream: str = "stdout") -> None:
        """The pod writes to its output, from where its stream is. (The nodes' marks count 10 bytes a generation.)"""
        row = Pod.objects.select_related("run", "node").get(run=self.job.current_run, index=pod)
        offset = getattr(row, f"{stream}_bytes")
        self.nodes.report(row.node.name, "log", log_body(row, offset, text.encode(), stream))

    def generation(self) -> Generation:
        return self.nodes.generation(self.job)

    def fail(self) -> Generation:
        """A generation that one node has no room for."""
        taken = take_generation(self.job)
        snapshot = taken.snapshots.select_related("node").get(pod=1)
        body = {"generation": str(taken.pk), "epoch": taken.epoch, "pod": 1, "ok": False, "code": "NO_SPACE", "message": "disk full"}
        self.nodes.report(snapshot.node.name, "snapshot", body)
        taken.refresh_from_db()
        assert taken.state == "failed"
        self.failed = taken
        return taken

    def roll_back(self, number: int) -> Resume:
        generation = Generation.objects.get(job=self.job, number=number)
        done = self.nodes.finish(resume_run(self.job, generation, cause="rollback", acting_user=self.owner))
        assert done.state == "done", done.reason
        self.nodes.beat()
        self.job.refresh_from_db()
        return done

    def told(self) -> Story:
        self.start()
        for step in range(1, 4):
            self.print(f"step {step * 100:4}\n")
            if step == 3:
                self.fail()
            self.generation()
        pin_generation(Generation.objects.get(job=self.job, number=2), True)
        self.roll_back(2)
        self.print("step  300\n")
        self.generation()
        return self
