"""REST's WebSocket; clusteros.asgi lets it in without session and without a look at the origin: a token is its only proof."""

from __future__ import annotations

from django.urls import path

from clusteros.api.socket import EventSocket

websocket_urlpatterns = [path("api/v1/events", EventSocket.as_asgi())]
