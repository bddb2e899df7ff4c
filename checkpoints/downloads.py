"""Files that come from the nodes as HTTP answers, for REST and console alike: a core, a whole generation. They are passed on as
they come; Problem when they cannot be had. One that breaks off later ends the connection early, which the reader notices.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.http import StreamingHttpResponse

from checkpoints.models import Generation
from checkpoints.services import open_core, open_export


def core_response(generation: Generation, pod: int, pid: int) -> StreamingHttpResponse:
    pieces, length = open_core(generation, pod, pid)
    answer = _attachment(pieces, "application/octet-stream", f"job{generation.job.number}-g{generation.number}-pod{pod}-{pid}.core")
    answer["Content-Length"] = str(length)
    return answer


def export_response(generation: Generation) -> StreamingHttpResponse:
    pieces, name = open_export(generation)
    return _attachment(pieces, "application/octet-stream", f"{name}.tar")


def _attachment(pieces: Iterator[bytes], kind: str, name: str) -> StreamingHttpResponse:
    answer = StreamingHttpResponse(pieces, content_type=kind)
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
