"""Missing chunks from several sources at once: each source serves the next batch as soon as it has served one.

What a source did not give goes back to the others; a source that failed once is not asked again. A meter bounds what all
transfers in the background take together: the reader waits, and so does the sender.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from native.engine import EngineError

log = logging.getLogger(__name__)
BATCH = 128
SOURCES_MAX = 4
Serve = Callable[[list[str]], None]
Missing = Callable[[list[str]], list[str]]


class Meter:
    """At most `bytes_per_s` on the average, whoever takes; 0: no bound. A burst is at most what a quarter of a second allows."""

    BURST_S = 0.25

    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, size: int) -> None:
        """Wait until `size` more bytes fit in."""
        if self.bytes_per_s <= 0:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - self.BURST_S) + size / self.bytes_per_s
            wait_s = self._free_at - now
        if wait_s > 0:
            time.sleep(wait_s)

    def through(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.take(len(piece))
            yield piece


NO_BOUND = Meter(0)


class Batches:
    """What is still wanted. `take` waits while others may give a batch back."""

    def __init__(self, digests: Sequence[str]) -> None:
        self._waiting = deque(list(digests[first : first + BATCH]) for first in range(0, len(digests), BATCH))
        self._under_way = 0
        self._changed = threading.Condition()

    def take(self) -> list[str] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._under_way)
            if not self._waiting:
                return None
            self._under_way += 1
            return self._waiting.popleft()

    def settle(self, left: list[str]) -> None:
        with self._changed:
            self._under_way -= 1
            if left:
                self._waiting.append(left)
            self._changed.notify_all()

    def left(self) -> bool:
        return bool(self._waiting)


def pull(digests: Sequence[str], sources: Mapping[str, Serve], missing: Missing) -> None:
    """Get all of `digests`. EngineError: some could not be had, with what each source said.

    `sources`: by the source's name, what gets a batch from it and raises EngineError or OSError when it cannot;
    `missing`: of these digests those that are not here.
    """
    batches, failures = Batches(digests), dict[str, EngineError]()

    def work(name: str, serve: Serve) -> None:
        while (batch := batches.take()) is not None:
            left: list[str] = []
            try:
                serve(batch)
            except (EngineError, OSError) as error:
                failures[name] = error if isinstance(error, EngineError) else EngineError("IO", str(error))
                log.warning("chunks from %s: %s", name, error)
                left = _left_of(batch, missing)
            finally:
                batches.settle(left)
            if name in failures:
                return

    _side_by_side([lambda name=name, serve=serve: work(name, serve) for name, serve in list(sources.items())[:SOURCES_MAX]])  # type: ignore[misc]
    if batches.left():
        raise refusal(failures)


def _left_of(batch: list[str], missing: Missing) -> list[str]:
    """What came before the failure stays."""
    try:
        return missing(batch)
    except (EngineError, OSError):
        return batch


def _side_by_side(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work, name="pull", daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def refusal(failures: dict[str, EngineError]) -> EngineError:
    """One error of what each source said; its code is the last one's."""
    words = "; ".join(f"from {name}: {error.message}" for name, error in failures.items())
    codes = [error.code for error in failures.values()]
    return EngineError(codes[-1], words) if codes else EngineError("NO_INPUT", "no source was named")
