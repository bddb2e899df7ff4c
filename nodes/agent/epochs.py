"""The newest epoch that this node has seen of each job: what is older is refused. Durable, one small file a job."""

from __future__ import annotations

import threading
from pathlib import Path

from native.engine import EngineError
from nodes.agent.durable import read_json, write_json


class Epochs:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._newest: dict[str, int] = {}

    def newest(self, job: str) -> int:
        """0 when nothing was ever seen of the job."""
        if job not in self._newest:
            self._newest[job] = int(read_json(self._folder / f"{job}.json") or 0)
        return self._newest[job]

    def see(self, job: str, epoch: int) -> bool:
        """Take note of an epoch; True if it is newer than all before. EngineError STALE when a newer one was seen."""
        with self._lock:
            newest = self.newest(job)
            if epoch < newest:
                raise EngineError("STALE", f"epoch {epoch} is over: epoch {newest} of the job has been seen here")
            if epoch > newest:
                write_json(self._folder / f"{job}.json", epoch)
                self._newest[job] = epoch
            return epoch > newest
