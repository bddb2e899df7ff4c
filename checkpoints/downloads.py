"""A core file as an HTTP answer, for REST and console alike."""

from __future__ import annotations

from django.http import StreamingHttpResponse

from checkpoints.models import Generation
from checkpoints.services import open_core


def core_response(generation: Generation, pod: int, pid: int) -> StreamingHttpResponse:
    """The bytes as they come from the node; Problem when they cannot be had."""
    pieces, length = open_core(generation, pod, pid)
    answer = StreamingHttpResponse(pieces, content_type="application/octet-stream")
    answer["Content-Disposition"] = f'attachment; filename="job{generation.job.number}-g{generation.number}-pod{pod}-{pid}.core"'
    answer["Content-Length"] = str(length)
    return answer
