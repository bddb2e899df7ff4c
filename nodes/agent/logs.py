"""Log shipping: the pods' stdout and stderr files, read in chunks and sent by offset.

The control side says with every lease answer up to where it has each stream; that alone counts as received. What
was sent and has not arrived after RESEND_S is sent again from there. The files are the memory: nothing else is
kept. Offsets on the wire are of the job's stream, which a restored pod continues at its generation's mark.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nodes.agent.records import STREAMS, PodRecord, Records
from nodes.agent.spec import pod_key
from nodes.agent.urgent import give_way

log = logging.getLogger(__name__)
CHUNK_BYTES = 48 << 10
WINDOW_BYTES = 2 << 20
RESEND_S = 4.0
POLL_S = 0.25
Send = Callable[[str, dict[str, Any]], None]


@dataclass
class Progress:
    """Of one stream of one pod, in bytes of its file here."""

    sent: int = 0
    known: int = 0
    moved_at: float = field(default_factory=time.monotonic)


class LogShipper(threading.Thread):
    def __init__(self, records: Records, send: Send) -> None:
        super().__init__(name="logs", daemon=True)
        self._records, self._send = records, send
        self._progress: dict[tuple[str, str], Progress] = {}
        self._lock = threading.Lock()
        self._stop_wanted = threading.Event()

    def stop(self) -> None:
        self._stop_wanted.set()

    def run(self) -> None:
        while not self._stop_wanted.wait(POLL_S):
            give_way()
            with suppress(ConnectionError):
                self.ship()

    def ship(self) -> None:
        """Send what is new of every stream, as far as the window goes."""
        for record in self._records:
            for stream in STREAMS:
                self._ship_stream(record, stream)

    def flush(self, record: PodRecord) -> None:
        """Before a pod is forgotten: send what was not sent yet, however much is still on its way."""
        with suppress(ConnectionError):
            for stream in STREAMS:
                self._ship_stream(record, stream, window_bytes=1 << 62)
        with self._lock:
            for stream in STREAMS:
                self._progress.pop((record.key, stream), None)

    def known(self, entries: list[dict[str, Any]]) -> None:
        """What the lease answer says that the control side has."""
        for entry in entries:
            record = self._records.get(pod_key(str(entry.get("run")), int(entry.get("pod", -1))))
            for stream in STREAMS:
                offset = entry.get(stream)
                if record and isinstance(offset, int):
                    self._note_known(record, stream, offset - record.log_base[stream])

    def _note_known(self, record: PodRecord, stream: str, offset: int) -> None:
        with self._lock:
            progress = self._of(record, stream)
            now = time.monotonic()
            if offset > progress.known:
                progress.known, progress.moved_at = offset, now
            progress.sent = max(progress.sent, progress.known)
            if progress.sent > progress.known and now - progress.moved_at > RESEND_S:
                progress.sent, progress.moved_at = max(0, offset), now

    def _of(self, record: PodRecord, stream: str) -> Progress:
        return self._progress.setdefault((record.key, stream), Progress())

    def _ship_stream(self, record: PodRecord, stream: str, window_bytes: int = WINDOW_BYTES) -> None:
        while True:
            with self._lock:
                progress = self._of(record, stream)
                offset = progress.sent
                if offset - progress.known >= window_bytes or offset >= _size(record, stream):
                    return
                if offset == progress.known:
                    progress.moved_at = time.monotonic()
            data = _read(record, stream, offset)
            if not data:
                return
            self._send("log", _body(record, stream, offset, data))
            with self._lock:
                progress.sent = max(progress.sent, offset + len(data))


def _size(record: PodRecord, stream: str) -> int:
    try:
        return record.log_path(stream).stat().st_size
    except FileNotFoundError:
        return 0


def _read(record: PodRecord, stream: str, offset: int) -> bytes:
    try:
        with record.log_path(stream).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)
    except FileNotFoundError:
        return b""


def _body(record: PodRecord, stream: str, offset: int, data: bytes) -> dict[str, Any]:
    name = {"run": record.spec.run, "epoch": record.spec.epoch, "pod": record.spec.pod, "stream": stream}
    return {**name, "offset": record.log_base[stream] + offset, "data": base64.b64encode(data).decode()}
