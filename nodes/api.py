"""REST: nodes, joining, drain."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from ninja import Router, Status

from clusteros.core.auth import require_admin
from clusteros.core.paging import page, sparse, wanted_fields
from clusteros.core.schemas import Page
from clusteros.environment import environment
from nodes import schemas, services
from nodes.models import Node

router = Router(tags=["nodes"])


def node_json(node: Node, user: Any) -> dict[str, Any]:
    return {
        "name": node.name, "state": node.state, "address": node.address, "store_url": node.store_url,
        "cores": node.cores, "mem_bytes": node.mem_bytes, "version": node.version, "load1": node.load1,
        "mem_used_bytes": node.mem_used_bytes, "store_bytes": node.store_bytes,
        "disk_free_bytes": node.disk_free_bytes, "net_in_bytes_per_s": node.net_in_bytes_per_s,
        "net_out_bytes_per_s": node.net_out_bytes_per_s, "joined_at": node.joined_at.isoformat(),
        "last_heartbeat": node.last_heartbeat.isoformat() if node.last_heartbeat else None,
        "drain_words": node.drain_words, "pods": _pods(node, user),
    }  # fmt: skip


def with_pods(nodes: QuerySet[Node]) -> QuerySet[Node]:
    """Each with `living`, the pods that live there, by what refers to the node (this app does not know jobs)."""
    pods: Any = Node._meta.get_field("pods").related_model
    living = pods.objects.exclude(state__in=("ended", "failed", "lost")).select_related("run__job").only(
        "index", "state", "mem_bytes", "node", "run__job__number", "run__job__owner_id"
    )  # fmt: skip
    return nodes.prefetch_related(Prefetch("pods", living, to_attr="living"))


def _pods(node: Node, user: Any) -> list[dict[str, Any]]:
    own = [pod for pod in node.living if user.is_staff or pod.run.job.owner_id == user.pk]  # type: ignore[attr-defined]
    return [{"job": p.run.job.number, "pod": p.index, "state": p.state, "mem_bytes": p.mem_bytes} for p in own]


def _one(request: HttpRequest, name: str) -> dict[str, Any]:
    services.get_node(name)
    return node_json(with_pods(Node.objects.filter(name=name))[0], request.user)


@router.get("/nodes", response=Page[schemas.NodeOrPart])
def nodes(
    request: HttpRequest, state: str | None = None, fields: str | None = None, limit: int = 200, cursor: str | None = None
) -> Any:
    """By name. `state` may name several, `fields` those that shall be answered, separated by commas."""
    only = wanted_fields(fields, schemas.NodeOut)
    rows = with_pods(Node.objects.all())
    if state:
        rows = rows.filter(state__in=state.split(","))
    answer = page(rows, lambda row: node_json(row, request.user), key="name", limit=limit, cursor=cursor, newest_first=False)
    return sparse(answer, only)


@router.post("/nodes/tokens", response={201: schemas.JoinTokenOut})
def make_join_token(request: HttpRequest, payload: schemas.JoinTokenIn) -> Any:
    """The answer's `token` is shown this once."""
    require_admin(request)
    row, text = services.make_join_token(acting_user=request.user, hours=payload.hours)
    return Status(201, {"id": row.pk, "token": text, "expires_at": row.expires_at.isoformat()})


@router.post("/nodes/join", auth=None, response=schemas.JoinOut)
def join(request: HttpRequest, payload: schemas.JoinIn) -> Any:
    """A machine joins with a join token; the answer holds its secret."""
    values = payload.dict()
    node = services.join_node(values.pop("token"), **values)
    return {
        "name": node.name, "secret": node.secret, "redis_url": environment().redis_url_for_nodes(),
        "heartbeat_s": environment().heartbeat_s,
    }  # fmt: skip


@router.get("/nodes/{name}", response=schemas.NodeDetails)
def node(request: HttpRequest, name: str) -> Any:
    found = services.get_node(name)
    return _one(request, name) | {"doctor": found.doctor, "boot_id": found.boot_id}


@router.post("/nodes/{name}/drain", response=schemas.NodeOut)
def drain(request: HttpRequest, name: str) -> Any:
    """Its jobs move to other nodes by a generation; nothing new starts there."""
    require_admin(request)
    services.drain_node(name, acting_user=request.user)
    return _one(request, name)


@router.post("/nodes/{name}/undrain", response=schemas.NodeOut)
def undrain(request: HttpRequest, name: str) -> Any:
    require_admin(request)
    services.undrain_node(name, acting_user=request.user)
    return _one(request, name)
