"""The console's WebSocket; clusteros.asgi puts it behind the session's login."""

from __future__ import annotations

from django.urls import path

from clusteros.console.consumers import LiveConsumer

websocket_urlpatterns = [path("ws/live/", LiveConsumer.as_asgi())]
