"""A directory that several nodes share (NFS or the like), as a place for images: what this node sees of it.

The administrator names it (`shared_store` in node.json, or CLUSTEROS_SHARED_STORE) and makes it ready once, on any node, with
`clusteros node share`: a mark with an identity is written. Without the mark nothing is known of what is there: a directory that is
not mounted is not an empty one. Below it lie owners' stores (stores.py), each with the engine's word that several nodes share it, so
that nobody locks.

A file server may be slow, gone or stale: whatever touches the directory runs where it can be given up (a thread that is left behind,
an engine that is ended), the heartbeat tells only what the watcher saw last, and while one look hangs the next is refused at once.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from native.engine import EngineError
from nodes.agent.durable import sync_dir, write_durable
from nodes.agent.stores import MANIFEST, OwnerStore, Stores

log = logging.getLogger(__name__)
MARK, MARK_MAX_BYTES = "clusteros-images.json", 4096
LOOK_EVERY_S, LOOK_TIMEOUT_S, LIST_EVERY_S, SIZE_EVERY_S = 5.0, 15.0, 30.0, 60.0
MANIFEST_MAX_BYTES, READ_TIMEOUT_S = 1 << 30, 60.0
FULL = (errno.ENOSPC, errno.EDQUOT)
T = TypeVar("T")


class Guard:
    """Does what may never come back on threads of its own, and does not begin anew while one is still out."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._out: list[threading.Thread] = []

    def bounded(self, work: Callable[[], T], timeout_s: float) -> T:
        """EngineError BUSY when it takes longer, or another did and still does. OSError becomes an EngineError with its words."""
        self._out = [thread for thread in self._out if thread.is_alive()]
        if self._out:
            raise EngineError("BUSY", f"{self._what} does not answer")
        outcome: list[T | BaseException] = []

        def run() -> None:
            try:
                outcome.append(work())
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=run, name="shared directory", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if not outcome:
            self._out.append(thread)
            raise EngineError("BUSY", f"{self._what} does not answer")
        return self._settled(outcome[0])

    def _settled(self, outcome: T | BaseException) -> T:
        if isinstance(outcome, OSError):
            raise EngineError("NO_SPACE" if outcome.errno in FULL else "IO", f"{self._what}: {outcome.strerror or outcome}") from outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def read_plain(path: Path, most_bytes: int) -> bytes:
    """A regular file, whatever somebody put in its place; OSError or EngineError otherwise."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise EngineError("BAD_IMAGE", f"{path} is no file")
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise EngineError("BAD_IMAGE", f"{path} is longer than it may be")
    return data


def make_ready(directory: Path) -> str:
    """Mark the directory as a place for images, if it is not one; its identity. OSError, EngineError."""
    try:
        return read_mark(directory)
    except EngineError as error:
        if error.code.name != "NO_INPUT":
            raise
    mark = {"id": secrets.token_hex(16), "version": 1}
    temporary = directory / f".{MARK}.{mark['id']}"
    write_durable(temporary, json.dumps(mark).encode())
    try:
        os.link(temporary, directory / MARK)  # of two who do it at once one is first
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    sync_dir(directory)
    return read_mark(directory)


def read_mark(directory: Path) -> str:
    """The identity of the place. EngineError NO_INPUT: there is no mark, so that nothing is known of what is there."""
    try:
        mark = json.loads(read_plain(directory / MARK, MARK_MAX_BYTES))
    except FileNotFoundError:
        words = "it is not mounted, or was not made ready (clusteros node share)"
        raise EngineError("NO_INPUT", f"{directory} has no mark of a place for images: {words}") from None
    except ValueError:
        mark = None
    if not isinstance(mark, dict) or not isinstance(mark.get("id"), str) or not mark["id"].isalnum() or len(mark["id"]) > 64:
        raise EngineError("BAD_IMAGE", f"{directory / MARK} is damaged")
    if mark.get("version") != 1:
        raise EngineError("UNSUPPORTED", f"{directory} is a place of another version")
    return str(mark["id"])


class PlainStores(Stores):
    """Owners' stores below a directory that others write too: what is a link there leads somewhere else and is none."""

    def every(self) -> list[OwnerStore]:
        return [place for place in super().every() if self.is_plain(place)]

    def is_plain(self, place: OwnerStore) -> bool:
        folders = [place.images, place.store, place.store / "packs"]
        folders += [self.root / "owners", self.root / "owners" / place.owner] if place.owner else []
        return not any(folder.is_symlink() for folder in folders)


class Shared(threading.Thread):
    """What the watcher saw last, and the doors to what lies there. Without a directory it is never there."""

    def __init__(self, directory: str) -> None:
        super().__init__(name="shared directory's watcher", daemon=True)
        self.directory = Path(directory)
        self.stores = PlainStores(self.directory)
        self._guard = Guard(f"the shared directory {directory}")
        self._configured = bool(directory)
        self._stop_wanted = threading.Event()
        self._lock = threading.Lock()
        self._words = "it was not looked at yet"
        self._id, self._free_bytes, self._bytes, self._sized_at = "", 0, 0, 0.0
        self._images: list[str] = []
        self._told: tuple[list[str], float] = ([], 0.0)

    def stop(self) -> None:
        self._stop_wanted.set()

    def run(self) -> None:
        wait_s = 0.0
        while self._configured and not self._stop_wanted.wait(wait_s):
            self.look()
            wait_s = LOOK_EVERY_S

    # ---- what is seen

    def look(self) -> None:
        """See what is there now; what was known of a place that cannot be seen is kept, and so is the reason."""
        try:
            seen = self._guard.bounded(self._see, LOOK_TIMEOUT_S)
        except EngineError as error:
            with self._lock:
                if self._words != error.message:
                    log.warning("the shared directory: %s", error.message)
                self._words = error.message
            return
        with self._lock:
            self._id, self._images, self._free_bytes = seen
            self._words = ""

    def _see(self) -> tuple[str, list[str], int]:
        identity = read_mark(self.directory)
        places = self.stores.every()
        images = sorted({digest for place in places for digest in place.listed()})
        room = os.statvfs(self.directory)
        if time.monotonic() - self._sized_at > SIZE_EVERY_S:
            self._bytes = sum(path.stat().st_size for place in places for path in place.store.glob("packs/*.pack"))
            self._sized_at = time.monotonic()
        return identity, images, room.f_bavail * room.f_frsize

    def report(self) -> dict[str, Any] | None:
        """For the heartbeat: {id, directory, ok, words, bytes, free_bytes}; `images` when they changed, and now and then. Never waits."""
        if not self._configured:
            return None
        with self._lock:
            found: dict[str, Any] = {"id": self._id, "directory": str(self.directory), "ok": not self._words, "words": self._words}
            found |= {"bytes": self._bytes, "free_bytes": self._free_bytes}
            told, at = self._told
            if not self._words and (told != self._images or time.monotonic() - at > LIST_EVERY_S):
                self._told = (self._images, time.monotonic())
                found["images"] = self._images
            return found

    def refuse_unseen(self) -> str:
        """The identity of the place; EngineError when there is none, or it cannot be seen."""
        if not self._configured:
            raise EngineError("NO_INPUT", "this node has no shared directory")
        return self._guard.bounded(lambda: read_mark(self.directory), LOOK_TIMEOUT_S)

    # ---- what is there

    def holding(self, digest: str) -> OwnerStore | None:
        """Where the image lies; None: nowhere, or nobody can say now."""
        try:
            self.refuse_unseen()
            return self._guard.bounded(lambda: self.stores.holding(digest), LOOK_TIMEOUT_S)
        except EngineError as error:
            if self._configured:
                log.warning("image %s may be in the shared directory: %s", digest, error)
            return None

    def manifest(self, place: OwnerStore, digest: str) -> bytes:
        path = place.path(digest) / MANIFEST
        return self._guard.bounded(lambda: read_plain(path, MANIFEST_MAX_BYTES), READ_TIMEOUT_S)

    def make_place(self, owner: str) -> OwnerStore:
        """The owner's store, made if it is not there: first the word that it is shared, then room for packs."""
        place = self.stores.of(owner)

        def make() -> OwnerStore:
            if not self.stores.is_plain(place):
                raise EngineError("BAD_IMAGE", f"below {self.directory} a link lies where a store should be")
            for folder in (place.images, place.store):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (place.store / "shared").touch(mode=0o600)
            sync_dir(place.store)
            return place

        return self._guard.bounded(make, LOOK_TIMEOUT_S)

    def age_s(self, name: str) -> float:
        """How long ago a file below the directory was touched; for ever, if there is none."""

        def look() -> float:
            try:
                return time.time() - (self.directory / name).lstat().st_mtime
            except FileNotFoundError:
                return float("inf")

        return self._guard.bounded(look, LOOK_TIMEOUT_S)

    def touch(self, name: str) -> None:
        self._guard.bounded(lambda: (self.directory / name).touch(mode=0o600), LOOK_TIMEOUT_S)

    def take_out(self, digest: str) -> bool:
        """The image is not held there any more; False: it was not. Its chunks go with a sweep."""

        def rename(place: OwnerStore) -> bool:
            aside = place.images / f"removed-{digest}-{secrets.token_hex(4)}"
            try:
                os.replace(place.path(digest), aside)
            except FileNotFoundError:  # another node was first
                return False
            for path in aside.iterdir():
                path.unlink()
            aside.rmdir()
            sync_dir(place.images)
            return True

        place = self.holding(digest)
        return place is not None and self._guard.bounded(lambda: rename(place), LOOK_TIMEOUT_S)

