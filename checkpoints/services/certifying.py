"""Certificates of complete generations: made here, kept by every node that holds a part, sent until each has said that it keeps it.
From them the record can be made anew (rebuilding.py)."""

from __future__ import annotations

from typing import Any

from checkpoints.certificates import make_certificate
from checkpoints.models import Generation, Replica, Snapshot
from nodes.models import Node
from nodes.outbox import ask, close


def certify(generation: Generation, snapshots: list[Snapshot]) -> None:
    """A generation has just become complete."""
    certificate = make_certificate(generation, snapshots)
    Generation.objects.filter(pk=generation.pk).update(certificate=certificate)
    digests = [snapshot.digest for snapshot in snapshots]
    for node in Node.objects.filter(replicas__digest__in=digests, replicas__complete=True).distinct():
        _send(generation, certificate, digests, node)


def certify_holder(digest: str, node: Node) -> None:
    """A node has come to hold an image of generations that are complete already: those that made it first may be lost one day."""
    complete = Generation.objects.filter(state="complete", snapshots__digest=digest, certificate__isnull=False)
    for generation in complete.distinct():
        certificate: dict[str, Any] = generation.certificate or {}
        _send(generation, certificate, [pod["digest"] for pod in certificate["pods"]], node)


def _send(generation: Generation, certificate: dict[str, Any], digests: list[str], node: Node) -> None:
    held = Replica.objects.filter(node=node, digest__in=digests, complete=True).values_list("digest", flat=True)
    body = {"generation": str(generation.pk), "digests": sorted(held), "certificate": certificate}
    ask(node, "keep_certificate", _key(generation.pk, node), body, job=generation.job_id)  # type: ignore[attr-defined]


def _key(generation: object, node: Node) -> str:
    return f"certificate:{generation}:{node.name}"


def record_certificate(node: Node, opened: dict[str, Any]) -> None:
    """It is kept (or is not needed any more: the images went first)."""
    close(_key(opened["body"].get("generation"), node), "kept")
