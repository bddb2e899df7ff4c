"""Certificates of complete generations, kept for the day on which the record is lost, as long as this node holds an image that one names.

One file each, read once: which images each names is remembered. A file that is no certificate names nothing, and stays to be looked at.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nodes.agent.durable import read_json, remove, write_json

log = logging.getLogger(__name__)


class Certificates:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._named: dict[str, frozenset[str]] | None = None

    def keep(self, generation: str, body: dict[str, Any]) -> None:
        """Durably. `body`: as it came, `digests` (the images here that it names) and `certificate`."""
        with self._lock:
            write_json(self._path(generation), body)
            self._known()[generation] = frozenset(body["digests"])

    def listing(self) -> list[dict[str, Any]]:
        """All that are kept, as they came."""
        found = (_read(path) for path in sorted(self._folder.glob("*.json")))
        return [body for body in found if body is not None]

    def forget(self, digests: Iterable[str]) -> None:
        """No generation needs these images any more: certificates that name one of them go."""
        gone = set(digests)
        with self._lock:
            for generation in [name for name, named in self._known().items() if named & gone]:
                remove(self._path(generation))
                del self._known()[generation]

    def _known(self) -> dict[str, frozenset[str]]:
        if self._named is None:
            bodies = ((path.stem, _read(path)) for path in self._folder.glob("*.json"))
            self._named = {name: frozenset(map(str, body.get("digests") or [])) for name, body in bodies if body is not None}
        return self._named

    def _path(self, generation: str) -> Path:
        return self._folder / f"{generation}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        body = read_json(path)
    except ValueError:
        body = None
        log.warning("%s is not a certificate", path)
    return body if isinstance(body, dict) else None
