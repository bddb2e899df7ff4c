"""Database connections of long-living threads: given back to the pool between pieces of work, renewed when broken."""

from __future__ import annotations

from django.db import connections


def refresh_connections() -> None:
    """Like close_old_connections, but never in the middle of a transaction."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
