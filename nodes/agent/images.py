"""The images that this node holds whole, and the names of those that are being made.

images/DIGEST holds an image whose manifest has that digest and whose chunks all lie in the store; `taking-KEY`
and `fetching-DIGEST` are on the way to that. A finished snapshot that was not renamed before a kill is renamed
by its manifest's digest at the start. Sweeping the store is kept apart from whoever is adding to it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodes.agent.durable import read_json, remove, sync_dir, write_json

log = logging.getLogger(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
MANIFEST, FACTS = "manifest", "facts.json"
SIZE_AGE_S = 15.0


class Images:
    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store
        self._lock = threading.Condition()
        self._adding = 0
        self._size, self._size_at = 0, -SIZE_AGE_S
        for path in folder.glob("taking-*"):
            self._settle_left(path)

    def _settle_left(self, path: Path) -> None:
        """A snapshot that a killed service did not name: its manifest stands only when all its chunks do."""
        if (path / MANIFEST).exists():
            log.info("image %s was finished without us: kept", self.adopt(path))

    def path(self, digest: str) -> Path:
        return self.folder / digest

    def has(self, digest: str) -> bool:
        return (self.path(digest) / MANIFEST).exists()

    def taking(self, key: str) -> Path:
        return self.folder / f"taking-{key}"

    def fetching(self, digest: str) -> Path:
        """The folder of an image on its way here, made when it is not there."""
        path = self.folder / f"fetching-{digest}"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def set_aside(self, digest: str) -> None:
        """A damaged image is not held any more; what is right of it is used when it is fetched again."""
        aside = self.folder / f"fetching-{digest}"
        remove(aside)
        os.replace(self.path(digest), aside)
        sync_dir(self.folder)

    def adopt(self, path: Path, **facts: Any) -> str:
        """Give a finished image its name; returns the digest. The same image twice is kept once."""
        digest = hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
        if facts:
            write_json(path / FACTS, facts)
        if self.has(digest):
            remove(path)
        else:
            os.replace(path, self.path(digest))
            sync_dir(self.folder)
        return digest

    def inventory(self) -> list[dict[str, Any]]:
        """[{digest, bytes}] of the images that are whole."""
        found = []
        for entry in sorted(self.folder.iterdir()):
            if _DIGEST.match(entry.name) and (entry / MANIFEST).exists():
                facts = read_json(entry / FACTS) or {}
                found.append({"digest": entry.name, "bytes": int(facts.get("bytes", 0))})
        return found

    def remove(self, digests: list[str]) -> list[str]:
        """Take images out of the inventory (their chunks go with the next sweep); what was there is returned."""
        gone = [digest for digest in digests if self.has(digest)]
        for digest in gone:
            aside = self.folder / f"removed-{digest}"
            remove(aside)
            os.replace(self.path(digest), aside)
            remove(aside)
        sync_dir(self.folder)
        return gone

    @contextmanager
    def adding(self) -> Iterator[None]:
        """While chunks are added that no manifest names yet."""
        with self._lock:
            self._adding += 1
        try:
            yield
        finally:
            with self._lock:
                self._adding -= 1
                self._lock.notify_all()

    @contextmanager
    def sweeping(self, timeout_s: float) -> Iterator[bool]:
        """Alone with the store: yields False when somebody went on adding for all of the time."""
        with self._lock:
            yield self._lock.wait_for(lambda: self._adding == 0, timeout_s)

    def store_bytes(self) -> int:
        """Size of the store on disk, at most some seconds old."""
        if time.monotonic() - self._size_at > SIZE_AGE_S:
            self._size = sum(_size(Path(folder) / name) for folder, _, names in os.walk(self.store) for name in names)
            self._size_at = time.monotonic()
        return self._size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
