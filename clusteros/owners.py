"""The name under which nodes keep an account's images: both sides make it of the account's name alone."""

from __future__ import annotations

import hashlib


def owner_tag(username: str) -> str:
    """The same after the database was made anew."""
    return hashlib.sha256(username.encode()).hexdigest()[:32]
