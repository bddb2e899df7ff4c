"""Work in the background, one at a time per key: what takes longer than a message may."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)


class Runner:
    def __init__(self, workers: int = 32) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="act")
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def start(self, key: str, work: Callable[[], None]) -> bool:
        """Run `work` unless something of the same key runs already: then False, and nothing happens."""
        with self._lock:
            if key in self._busy:
                return False
            self._busy.add(key)
        self._pool.submit(self._run, key, work)
        return True

    def busy(self, prefix: str) -> bool:
        with self._lock:
            return any(key.startswith(prefix) for key in self._busy)

    def _run(self, key: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("%s failed in a way that nobody foresaw", key)
        finally:
            with self._lock:
                self._busy.discard(key)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
