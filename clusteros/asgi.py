"""The ASGI application: HTTP by Django, WebSockets by the console's consumers (clusteros.console.routing)."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteros.settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402


def websocket_routes() -> list[object]:
    if find_spec("clusteros.console.routing") is None:
        return []
    return list(import_module("clusteros.console.routing").websocket_urlpatterns)


application = ProtocolTypeRouter(
    {"http": http, "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_routes())))}
)
