"""Where requests go: the REST API below /api/v1, everything else to the console."""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import URLPattern, URLResolver, include, path

from clusteros.api import api

urlpatterns: list[URLPattern | URLResolver] = [path("api/v1/", api.urls)]
if find_spec("clusteros.console.urls"):
    urlpatterns.append(path("", include("clusteros.console.urls")))
