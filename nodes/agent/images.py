"""The images that this node holds whole, and the names of those that are being made.

images/DIGEST of an owner's store (stores.py) holds an image whose manifest has that digest and whose chunks all lie in that store;
`taking-KEY` and `fetching-DIGEST` beside it are on the way to that. A finished snapshot that was not renamed before a kill is renamed
by its manifest's digest at the start. Sweeping the store is kept apart from whoever is adding to it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodes.agent.durable import read_json, remove, sync_dir, write_json
from nodes.agent.stores import FACTS, MANIFEST, OwnerStore, Stores, give_name

log = logging.getLogger(__name__)
SIZE_AGE_S = 15.0


class Images(Stores):
    """`root`: the node's state directory."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._lock = threading.Condition()
        self._adding = 0
        self._size, self._size_at = 0, -SIZE_AGE_S
        for each in self.every():
            for path in (*each.images.glob("taking-*"), *each.images.glob("importing-*")):
                self._settle_left(path)

    def _settle_left(self, path: Path) -> None:
        """A snapshot that a killed service did not name, or an import that was killed: its manifest stands only when all its chunks do."""
        if (path / MANIFEST).exists():
            log.info("image %s was finished without us: kept", self.adopt(path))

    def place(self, digest: str) -> OwnerStore:
        """Where the image lies, or would if it were here and nobody had told its owner."""
        return self.holding(digest) or self.of("")

    def path(self, digest: str) -> Path:
        return self.place(digest).path(digest)

    def has(self, digest: str) -> bool:
        return self.holding(digest) is not None

    def taking(self, key: str, owner: str = "") -> Path:
        return self._folder(owner) / f"taking-{key}"

    def fetching(self, digest: str, owner: str = "") -> Path:
        """The folder of an image on its way here, made when it is not there."""
        path = self._folder(owner) / f"fetching-{digest}"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _folder(self, owner: str) -> Path:
        folder = self.of(owner).images
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def set_aside(self, digest: str) -> None:
        """A damaged image is not held any more; what is right of it is used when it is fetched again."""
        path = self.path(digest)
        aside = path.with_name(f"fetching-{digest}")
        remove(aside)
        os.replace(path, aside)
        sync_dir(path.parent)

    def adopt(self, path: Path, **facts: Any) -> str:
        """Give a finished image its name; returns the digest. The same image twice is kept once."""
        digest = hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
        if facts:
            write_json(path / FACTS, facts)
        give_name(path, digest, held=self.has(digest))
        return digest

    def inventory(self) -> list[dict[str, Any]]:
        """[{digest, bytes}] of the images that are whole."""
        found = []
        for each in self.every():
            for digest in each.listed():
                facts = read_json(each.path(digest) / FACTS) or {}
                found.append({"digest": digest, "bytes": int(facts.get("bytes", 0))})
        return found

    def bytes_of(self, digest: str) -> int:
        """What an image that is held has of content; 0 where nobody wrote it down."""
        return int((read_json(self.path(digest) / FACTS) or {}).get("bytes", 0))

    def remove(self, digests: list[str]) -> list[str]:
        """Take images out of the inventory (their chunks go with the next sweep); what was there is returned."""
        gone = [digest for digest in digests if self.has(digest)]
        for digest in gone:
            while place := self.holding(digest):
                aside = place.images / f"removed-{digest}"
                remove(aside)
                os.replace(place.path(digest), aside)
                remove(aside)
                sync_dir(place.images)
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
        """Size of all stores on disk, at most some seconds old."""
        if time.monotonic() - self._size_at > SIZE_AGE_S:
            self._size = sum(_tree_size(each.store) for each in self.every())
            self._size_at = time.monotonic()
        return self._size


def _tree_size(top: Path) -> int:
    return sum(_size(Path(folder) / name) for folder, _, names in os.walk(top) for name in names)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
