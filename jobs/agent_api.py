"""What node services fetch from and put on the front end over HTTP, proven by the node's own signature."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from django.http import FileResponse, HttpRequest
from ninja import Router

from clusteros.core.problems import Problem, not_found
from clusteros.envelope import HEADER_DATE, HEADER_DIGEST, HEADER_MAC, HEADER_NODE, EnvelopeError, check_request
from jobs.blobs import READ_BYTES, open_blob
from jobs.models import JobFile, Pod
from jobs.services import record_output
from nodes.models import Node

router = Router(tags=["agent"])


def node_of_request(request: HttpRequest) -> Node:
    """The node that signed this request; Problem UNAUTHENTICATED otherwise."""
    headers = request.headers
    node = Node.objects.filter(name=headers.get(HEADER_NODE, "")).first()
    try:
        if node is None:
            raise EnvelopeError("the node is not known")
        check_request(
            node.secret, request.method or "", request.get_full_path(), node=node.name,
            date=headers.get(HEADER_DATE, ""), content_sha256=headers.get(HEADER_DIGEST, ""),
            mac=headers.get(HEADER_MAC, ""),
        )  # fmt: skip
    except EnvelopeError as error:
        raise Problem("UNAUTHENTICATED", str(error)) from None
    return node


@router.get("/agent/jobfiles/{job_id}/{sha256}", auth=None)
def job_file(request: HttpRequest, job_id: uuid.UUID, sha256: str) -> Any:
    """A file that came with a job, for a node that has a pod of it."""
    node = node_of_request(request)
    has_pod = Pod.objects.filter(node=node, run__job_id=job_id).exists()
    if not has_pod or not JobFile.objects.filter(job_id=job_id, sha256=sha256).exists():
        raise not_found("file of a job with a pod on this node")
    return FileResponse(open_blob(sha256), content_type="application/octet-stream")


@router.put("/agent/files/{run}/{pod}/{path:path}", auth=None)
def take_output_file(request: HttpRequest, run: uuid.UUID, pod: int, path: str) -> Any:
    """A file of a pod's working directory; its digest stands in the signed headers."""
    node = node_of_request(request)
    digest = request.headers.get(HEADER_DIGEST, "")
    row = record_output(node, str(run), pod, path, _body(request), digest)
    return {"path": row.path, "size": row.size_bytes, "sha256": row.sha256}


def _body(request: HttpRequest) -> Iterator[bytes]:
    while chunk := request.read(READ_BYTES):
        yield chunk


