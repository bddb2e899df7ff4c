"""REST: nodes, joining, drain."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status

from clusteros.core.auth import require_admin
from clusteros.core.paging import page
from clusteros.environment import environment
from nodes import services
from nodes.models import Node

router = Router(tags=["nodes"])


class JoinIn(Schema):
    token: str
    name: str
    address: str
    store_port: int = 0
    store_url: str
    cores: int
    mem_bytes: int
    version: str = ""


class JoinTokenIn(Schema):
    hours: float = 24


def node_json(node: Node) -> dict[str, Any]:
    return {
        "name": node.name, "state": node.state, "address": node.address, "store_url": node.store_url,
        "cores": node.cores, "mem_bytes": node.mem_bytes, "version": node.version, "load1": node.load1,
        "mem_used_bytes": node.mem_used_bytes, "store_bytes": node.store_bytes,
        "disk_free_bytes": node.disk_free_bytes, "joined_at": node.joined_at.isoformat(),
        "last_heartbeat": node.last_heartbeat.isoformat() if node.last_heartbeat else None,
        "drain_words": node.drain_words, "pods": _pods(node),
    }  # fmt: skip


def _pods(node: Node) -> list[dict[str, Any]]:
    """Pods that live here, by what refers to the node (this app does not know jobs)."""
    live = node.pods.exclude(state__in=("ended", "failed", "lost")).select_related("run__job")  # type: ignore[attr-defined]
    return [{"job": p.run.job.number, "pod": p.index, "state": p.state, "mem_bytes": p.mem_bytes} for p in live]


@router.get("/nodes")
def nodes(request: HttpRequest, limit: int = 200, cursor: str | None = None) -> Any:
    return page(Node.objects.all(), node_json, key="name", limit=limit, cursor=cursor, newest_first=False)


@router.post("/nodes/tokens", response={201: dict})
def make_join_token(request: HttpRequest, payload: JoinTokenIn) -> Any:
    """The answer's `token` is shown this once."""
    require_admin(request)
    row, text = services.make_join_token(acting_user=request.user, hours=payload.hours)
    return Status(201, {"id": row.pk, "token": text, "expires_at": row.expires_at.isoformat()})


@router.post("/nodes/join", auth=None)
def join(request: HttpRequest, payload: JoinIn) -> Any:
    """A machine joins with a join token; the answer holds its secret."""
    values = payload.dict()
    node = services.join_node(values.pop("token"), **values)
    return {
        "name": node.name, "secret": node.secret, "redis_url": environment().redis_url_for_nodes(),
        "heartbeat_s": environment().heartbeat_s,
    }  # fmt: skip


@router.get("/nodes/{name}")
def node(request: HttpRequest, name: str) -> Any:
    found = services.get_node(name)
    return node_json(found) | {"doctor": found.doctor, "boot_id": found.boot_id}


@router.post("/nodes/{name}/drain")
def drain(request: HttpRequest, name: str) -> Any:
    require_admin(request)
    return node_json(services.drain_node(name, acting_user=request.user))


@router.post("/nodes/{name}/undrain")
def undrain(request: HttpRequest, name: str) -> Any:
    require_admin(request)
    return node_json(services.undrain_node(name, acting_user=request.user))
