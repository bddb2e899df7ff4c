"""The pods that this node knows, one folder each: what was asked for and how far it got.

pod.json is replaced durably at every step, so that a service that starts anew goes on where the last one was
killed. Beside it stand the pod's log files, its environment and its hosts file. The engine's own POD folder is
elsewhere (pods/KEY); what it says of a living pod is newer than any record.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from native.engine import EngineError
from nodes.agent.durable import read_json, remove, sync_dir, write_json
from nodes.agent.spec import PodSpec, take_spec

STREAMS = ("stdout", "stderr")
GRAVE_S = 7 * 86400.0


@dataclass
class PodRecord:
    folder: Path
    pod_dir: Path
    spec: PodSpec
    request: dict[str, Any]
    """The body that asked for it: a start that was killed half way is done again from it."""
    phase: str = "starting"
    """starting, restoring, running, ended, failed"""
    exit_status: int | None = None
    code: str = "OK"
    message: str = ""
    started_at: float | None = None
    log_base: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    """The stream's offset at which this pod's own log file begins."""
    log_acked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    """Bytes of the log file that the control side has."""
    suspended: bool = False
    uploaded: bool = False
    ending: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while the pod is started, restored or ended: one of them at a time. `ending` makes the others give way."""
    upload_lock: threading.Lock = field(default_factory=threading.Lock)
    live: dict[str, Any] = field(default_factory=dict)
    """What the engine said last (not kept)."""

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def restored(self) -> bool:
        return "image" in self.request

    def log_path(self, stream: str) -> Path:
        return self.folder / stream

    def save(self) -> None:
        """Replace pod.json; a pod that was forgotten meanwhile stays forgotten."""
        kept = {name: getattr(self, name) for name in _KEPT}
        try:
            write_json(self.folder / "pod.json", {**kept, "spec": asdict(self.spec)})
        except FileNotFoundError:
            if self.folder.exists():
                raise


_KEPT = (
    *("request", "phase", "exit_status", "code", "message", "started_at", "log_base", "log_acked"),
    *("suspended", "uploaded", "ending"),
)


class Records:
    def __init__(self, folder: Path, pods: Path, graves: Path) -> None:
        self._folder, self._pods, self._graves = folder, pods, graves
        self._forget_graves()
        self._lock = threading.Lock()
        self._records: dict[str, PodRecord] = {}
        for entry in sorted(folder.iterdir()):
            record = self._load(entry)
            if record:
                self._records[record.key] = record

    def _load(self, folder: Path) -> PodRecord | None:
        kept = read_json(folder / "pod.json")
        if kept is None:  # killed before the first save: nothing was started
            remove(folder)
            return None
        spec = take_spec(kept.pop("spec"))
        return PodRecord(folder=folder, pod_dir=self._pods / folder.name, spec=spec, **kept)

    def __iter__(self) -> Iterator[PodRecord]:
        with self._lock:
            return iter(list(self._records.values()))

    def get(self, key: str) -> PodRecord | None:
        return self._records.get(key)

    def get_or_bury(self, key: str) -> PodRecord | None:
        """The record of a pod that is to end; one that is not known is buried, and no start that is under way can come in between."""
        with self._lock:
            record = self._records.get(key)
            if record is None:
                self.bury(key)
            return record

    def of_job(self, job: str) -> list[PodRecord]:
        return [record for record in self if record.spec.job == job]

    def make(self, spec: PodSpec, request: dict[str, Any], phase: str) -> tuple[PodRecord, bool]:
        """The record of a pod and whether it is new; kept durably before it is returned."""
        with self._lock:
            known = self._records.get(spec.key)
            if known:
                return known, False
            if self.is_buried(spec.key):
                raise EngineError("STALE", f"pod {spec.key} has been here and is over")
            folder = self._folder / spec.key
            folder.mkdir(mode=0o700, exist_ok=True)
            record = PodRecord(folder=folder, pod_dir=self._pods / spec.key, spec=spec, request=request, phase=phase)
            record.save()
            self._records[spec.key] = record
            return record, True

    def bury(self, key: str) -> None:
        """This pod is over for good: a message that comes late or twice does not start it again."""
        (self._graves / key).touch(mode=0o600)
        sync_dir(self._graves)

    def is_buried(self, key: str) -> bool:
        return (self._graves / key).exists()

    def _forget_graves(self) -> None:
        """No message lives that long."""
        oldest = time.time() - GRAVE_S
        for path in self._graves.iterdir():
            if path.stat().st_mtime < oldest:
                remove(path)

    def drop(self, record: PodRecord) -> None:
        """Forget a pod: its engine folder first, its record last."""
        self.bury(record.key)
        with self._lock:
            remove(record.pod_dir)
            remove(record.folder / "pod.json")
            remove(record.folder)
            self._records.pop(record.key, None)
