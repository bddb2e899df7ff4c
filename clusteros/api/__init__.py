"""The REST API /api/v1: who asks (auth.py), how refusals look, and the routers of the apps."""

from clusteros.api.root import api

__all__ = ["api"]
