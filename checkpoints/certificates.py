"""Certificates: a complete generation, written so that a job can be made anew from it alone, and signed with the
cluster's key. They lie on the nodes beside the images; `manage.py rebuild_record` reads them back.

The key is a file of the front end (STATE/cluster.key, 0600), not a row: it must outlive the database.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from typing import Any

from checkpoints.models import Generation, Snapshot
from clusteros.envelope import canonical
from clusteros.environment import environment

VERSION = 1
JOB_FIELDS = (
    "number", "name", "command", "script", "pods", "ranks_per_pod", "cores_per_rank", "mem_bytes", "walltime_s", "env",
    "workdir", "interval_s", "keep", "keep_every", "keep_per", "files_policy", "placement", "wanted_nodes", "queue", "priority",
)  # fmt: skip


def cluster_key() -> bytes:
    """The cluster's key, made at first use; two who make it at once agree on the first."""
    path = environment().state / "cluster.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        own = path.with_name(f".cluster.key.{os.getpid()}")
        own.touch(mode=0o600)
        own.write_text(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
        own.unlink()
    return bytes.fromhex(path.read_text().strip())


def make_certificate(generation: Generation, snapshots: list[Snapshot]) -> dict[str, Any]:
    job, parent = generation.job, generation.parent
    content = {
        "version": VERSION,
        "job": {"id": str(job.pk), "owner": job.owner.username, **{name: getattr(job, name) for name in JOB_FIELDS}},
        "generation": {
            "id": str(generation.pk), "number": generation.number, "epoch": generation.epoch,
            "parent": parent.number if parent else None, "taken_at": generation.taken_at.timestamp(),
            "ran_s": generation.ran_s, "pause_ms": generation.pause_ms, "bytes": generation.bytes,
            "bytes_new": generation.bytes_new, "cause": generation.cause,
        },
        "pods": [
            {"pod": s.pod, "digest": s.digest, "bytes": s.bytes, "bytes_new": s.bytes_new, "log_marks": s.log_marks}
            for s in snapshots
        ],
    }  # fmt: skip
    return {**content, "signature": _sign(content)}


def check_certificate(certificate: Any) -> dict[str, Any]:
    """The content of a certificate of this cluster; ValueError for anything else."""
    if not isinstance(certificate, dict) or not isinstance(certificate.get("signature"), str):
        raise ValueError("not a certificate")
    content = {key: value for key, value in certificate.items() if key != "signature"}
    if not hmac.compare_digest(certificate["signature"], _sign(content)):
        raise ValueError("the signature is not this cluster's")
    if content.get("version") != VERSION:
        raise ValueError("a certificate of another version")
    return content


def _sign(content: dict[str, Any]) -> str:
    return hmac.new(cluster_key(), b"certificate\0" + canonical(content), hashlib.sha256).hexdigest()
