"""Verbs about nodes: make join tokens, join, take heartbeats, lose, drain, undrain.

What a node's loss or drain means for jobs is decided above (checkpoints.services), which reads node rows.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
from typing import Any

from django.db import transaction
from django.utils import timezone

from clusteros.core.dispatch import wake_scheduler
from clusteros.core.events import record_event
from clusteros.core.problems import Problem, conflict, invalid, not_found
from clusteros.core.states import lock, move, move_if
from clusteros.envelope import NAME
from nodes.models import JoinToken, Node

TOKEN_PREFIX = "cosn_"
MAX_CORES = 4096
FIGURES = ("load1", "mem_used_bytes", "store_bytes", "disk_free_bytes", "net_in_bytes_per_s", "net_out_bytes_per_s")
URL = re.compile(r"https?://[A-Za-z0-9_.:\[\]-]{1,150}/?\Z")


@transaction.atomic
def make_join_token(*, acting_user: Any = None, hours: float = 24.0) -> tuple[JoinToken, str]:
    """(row, the token's text: shown once)."""
    if not 0 < hours <= 24 * 3650:
        raise invalid("hours", "between 0 and ten years")
    text = TOKEN_PREFIX + secrets.token_urlsafe(24)
    row = JoinToken.objects.create(
        sha256=_digest(text), hint=text[:9], created_by=acting_user,
        expires_at=timezone.now() + datetime.timedelta(hours=hours),
    )  # fmt: skip
    record_event("node.token_made", f"join token {row.hint}… valid until {row.expires_at:%Y-%m-%d %H:%M} UTC")
    return row, text


@transaction.atomic
def join_node(
    token: str, *, name: str, address: str, store_port: int, store_url: str, cores: int, mem_bytes: int, version: str
) -> Node:
    """Register a machine. A known name with a good token gets a new secret and keeps its record."""
    _check_join_token(token)
    _check_join_values(name, store_url, store_port, cores, mem_bytes)
    values = {
        "address": address, "store_port": store_port, "store_url": store_url, "cores": cores,
        "mem_bytes": mem_bytes, "version": version[:50], "secret": secrets.token_urlsafe(32),
    }  # fmt: skip
    node, made = Node.objects.update_or_create(name=name, defaults=values)
    record_event("node.joined", f"{cores} cores, {mem_bytes >> 20} MiB" + ("" if made else " (again)"), node=name)
    wake_scheduler()
    return node


def _check_join_token(text: str) -> None:
    row = JoinToken.objects.filter(sha256=_digest(text)).first()
    if row is None or row.revoked_at is not None:
        raise Problem("UNAUTHENTICATED", "this join token is not known here, or was revoked")
    if row.expires_at <= timezone.now():
        raise Problem("UNAUTHENTICATED", f"this join token expired at {row.expires_at:%Y-%m-%d %H:%M} UTC")


def _check_join_values(name: str, store_url: str, store_port: int, cores: int, mem_bytes: int) -> None:
    if not NAME.match(name):
        raise invalid("name", "letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit")
    if not URL.match(store_url):
        raise invalid("store_url", "not an http address of a host")
    if not 0 <= store_port < 65536:
        raise invalid("store_port", "not a port")
    if not 1 <= cores <= MAX_CORES:
        raise invalid("cores", f"between 1 and {MAX_CORES}")
    if not 1 << 20 <= mem_bytes < 1 << 56:
        raise invalid("mem_bytes", "at least 1 MiB")


@transaction.atomic
def record_heartbeat(node: Node, body: dict[str, Any], now: datetime.datetime) -> bool:
    """Note that the node lives and what it has. False for a heartbeat older than one already taken."""
    lock(node)
    same_boot = node.boot_id == body["boot_id"]
    if same_boot and int(body["boottime_ns"]) <= node.boottime_ns:
        return False
    _note_figures(node, body, now)
    if node.state == "lost":
        _welcome_back(node)
    return True


def _note_figures(node: Node, body: dict[str, Any], now: datetime.datetime) -> None:
    node.last_heartbeat = now
    node.boot_id, node.boottime_ns = str(body["boot_id"])[:64], int(body["boottime_ns"])
    for field in FIGURES:
        setattr(node, field, body.get(field) or 0)
    fields = ["last_heartbeat", "boot_id", "boottime_ns", *FIGURES]
    if body.get("doctor"):
        node.doctor = body["doctor"]
        fields.append("doctor")
    if body.get("store_url") and URL.match(str(body["store_url"])) and body["store_url"] != node.store_url:
        node.store_url = body["store_url"]
        fields.append("store_url")
    node.save(update_fields=fields)


def _welcome_back(node: Node) -> None:
    move(node, "up", "its heartbeat is back")
    if node.drain_wanted:
        move(node, "draining", "it was to be drained")
    wake_scheduler()


@transaction.atomic
def lose_node(node: Node, words: str) -> bool:
    """The node is silent for too long. False when it is lost already."""
    return move_if(node, "lost", words)


@transaction.atomic
def drain_node(name: str, *, acting_user: Any = None) -> Node:
    """Give no more pods to the node and move its jobs off; `drained` when nothing is left there."""
    node = get_node(name)
    lock(node)
    if node.state == "lost":
        raise conflict(f"node {name} is lost: what ran there is being brought back elsewhere already")
    if node.state in ("draining", "drained"):
        return node
    move(node, "draining", actor=str(acting_user or ""), drain_wanted=True, drain_words="")
    wake_scheduler()
    return node


@transaction.atomic
def undrain_node(name: str, *, acting_user: Any = None) -> Node:
    node = get_node(name)
    lock(node)
    Node.objects.filter(pk=node.pk).update(drain_wanted=False)
    if node.state in ("draining", "drained"):
        move(node, "up", "the drain was taken back", actor=str(acting_user or ""), drain_wanted=False, drain_words="")
        wake_scheduler()
    return node


def get_node(name: str) -> Node:
    node = Node.objects.filter(name=name).first()
    if node is None:
        raise not_found(f"node {name}")
    return node


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
