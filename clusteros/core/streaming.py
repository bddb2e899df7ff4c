"""Long answers go out piece by piece, also from the ASGI server.

Django's ASGI handler makes a list of a synchronous iterator before it sends its first byte (docs: StreamingHttpResponse), so that
a core file or a job's output would be whole in the memory of the web process. Here each piece is asked for on the request's own
thread (the handler's ThreadSensitiveContext), where the view ran and its connection to the database is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse


class StreamMiddleware:
    """The outermost one, so that it meets every answer in its last form."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if isinstance(request, ASGIRequest) and isinstance(response, StreamingHttpResponse) and not response.is_async:
            response.streaming_content = by_pieces(iter(response.streaming_content))  # type: ignore[arg-type]
        return response


async def by_pieces(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces; none is made before the one before it was sent."""
    next_piece = sync_to_async(lambda: next(pieces, None))
    while (piece := await next_piece()) is not None:
        yield piece
