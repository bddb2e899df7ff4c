"""Where images and their chunks lie below a directory: owners/OWNER/images and owners/OWNER/store, one store for each owner of jobs.

Equal chunks are stored once among one owner's jobs alone (decision 0062): whether a chunk is there already tells nobody
anything about another's memory. The owner stands in the control side's sealed orders, never in what a job says. Images whose owner
was not told (those of an older node service) lie in images/ and store/ and are read from there. A node's state directory and a directory
that several nodes share have this same layout.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nodes.agent.durable import remove, sync_dir
from nodes.agent.spec import OWNER

MANIFEST, FACTS = "manifest", "facts.json"
DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class OwnerStore:
    """One owner's images (a folder for each, by digest) and the store of their chunks."""

    owner: str
    images: Path
    store: Path

    def path(self, digest: str) -> Path:
        return self.images / digest

    def has(self, digest: str) -> bool:
        return (self.path(digest) / MANIFEST).exists()

    def listed(self) -> list[str]:
        """Digests of the images that are whole."""
        if not self.images.is_dir():
            return []
        return sorted(p.name for p in self.images.iterdir() if DIGEST.match(p.name) and (p / MANIFEST).exists())


def give_name(path: Path, digest: str, *, held: bool) -> None:
    """A finished image beside the others gets its name, durably; one that is held already is kept once."""
    if held:
        remove(path)
    else:
        os.replace(path, path.with_name(digest))
    sync_dir(path.parent)


class Stores:
    """All owners' stores below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, owner: str) -> OwnerStore:
        folder = self.root / "owners" / owner if owner else self.root
        return OwnerStore(owner, folder / "images", folder / "store")

    def every(self) -> list[OwnerStore]:
        owners = self.root / "owners"
        names = sorted(p.name for p in owners.iterdir() if OWNER.match(p.name)) if owners.is_dir() else []
        return [self.of(""), *(self.of(name) for name in names)]

    def holding(self, digest: str) -> OwnerStore | None:
        """Where an image lies that is whole."""
        return next((each for each in self.every() if each.has(digest)), None)
