"""The ASGI application: HTTP by Django, WebSockets by the console (clusteros.console.routing: session, own origin) and by REST
(clusteros.api.routing: a token). Any other address of a WebSocket is refused."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteros.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator, WebsocketDenier  # noqa: E402
from django.urls import re_path  # noqa: E402

from clusteros.api import routing as api  # noqa: E402
from clusteros.console import routing as console  # noqa: E402

nowhere: Any = re_path("", WebsocketDenier.as_asgi())
of_console = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([*console.websocket_urlpatterns, nowhere])))
application = ProtocolTypeRouter(
    {"http": http, "websocket": URLRouter([*api.websocket_urlpatterns, re_path("", of_console)])}
)
