"""Drains: jobs move off by a generation, images get their replicas elsewhere, then the node is drained. What stands in
the way is said in the node's `drain_words` and tried again.
"""

from __future__ import annotations

import datetime
from typing import Any

from checkpoints.models import RESUME_OPEN, Replica, Resume, Snapshot
from checkpoints.services.moving import migrate_job
from checkpoints.services.replicas import NEEDED, counting_states, replicas_wanted
from checkpoints.services.shared import counted
from clusteros.core.problems import Problem
from clusteros.core.states import move_if
from jobs.models import POD_LIVE, Job
from nodes.models import Node


def advance_drains(clock: Any, now: datetime.datetime) -> None:
    for node in Node.objects.filter(state="draining"):
        words = [*_move_jobs(node), *_images_left(node)]
        _say(node, "; ".join(words))
        if not words:
            move_if(node, "drained", "nothing is left on it", drain_words="")


def _say(node: Node, words: str) -> None:
    if node.drain_words != words:
        Node.objects.filter(pk=node.pk).update(drain_words=words)


def _move_jobs(node: Node) -> list[str]:
    """What still holds the node, job by job; each that can is set in motion."""
    return [_move_job(job, node) for job in _jobs_on(node)]


def _jobs_on(node: Node) -> list[Job]:
    jobs = Job.objects.filter(runs__pods__node=node, runs__pods__state__in=POD_LIVE)
    return list(jobs.select_related("owner").distinct().order_by("number"))


def _move_job(job: Job, node: Node) -> str:
    current = Resume.objects.filter(job=job, state__in=RESUME_OPEN).first()
    if current is not None:
        return f"job {job.number} is moving ({current.state})"
    draining = set(Node.objects.filter(state__in=("draining", "drained")).values_list("name", flat=True))
    try:
        migrate_job(job, draining | {node.name})
        return f"job {job.number} is moving"
    except Problem as problem:
        return f"job {job.number} stays: {problem.detail}"


def _images_left(node: Node) -> list[str]:
    """Images whose replicas elsewhere are too few."""
    held = Replica.objects.filter(node=node, complete=True).values("digest")
    needed = Snapshot.objects.filter(generation__state__in=NEEDED, digest__in=held)
    wanted, short = replicas_wanted(), 0
    states = [state for state in counting_states() if state != "draining"]
    digests = set(needed.values_list("digest", flat=True))
    shared = counted(digests)
    for digest in digests:
        good = Replica.objects.filter(digest=digest, complete=True, node__state__in=states).exclude(node=node).count()
        short += good + (digest in shared) < wanted
    return [f"{short} images wait for a replica on another node"] if short else []
