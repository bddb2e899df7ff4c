"""ETags of single objects: the same answer has the same tag, so that a reader is told 304 and a writer that had an older
one in mind (If-Match) is told 412 instead of overwriting what it has not seen."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.http import HttpRequest, HttpResponse

from clusteros.core.problems import Problem


def etag_of(answer: dict[str, Any]) -> str:
    return '"' + hashlib.sha256(json.dumps(answer, sort_keys=True, default=str).encode()).hexdigest()[:32] + '"'


def tagged(response: HttpResponse, answer: dict[str, Any]) -> dict[str, Any]:
    """`answer`, with its tag on the response; the API's middleware makes 304 of it where that was asked."""
    response["ETag"] = etag_of(answer)
    return answer


def require_match(request: HttpRequest, present: dict[str, Any]) -> None:
    """Problem STALE (412) when If-Match names another state than the present one."""
    wanted = request.headers.get("If-Match", "").strip()
    if wanted and wanted != "*" and etag_of(present) not in [tag.strip() for tag in wanted.split(",")]:
        raise Problem("STALE", "it has changed since you read it: read it again", status=412)
