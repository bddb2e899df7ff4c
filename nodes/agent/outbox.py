"""Reports of this node that must not be lost: files of the outbox folder until the control side acked them.

A report is written before it is sent; every heartbeat carries what is not acked yet. Order is by number, which
grows over restarts. Safe for several threads of the one service process.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nodes.agent.durable import read_json, remove, write_json

Envelope = dict[str, Any]
Send = Callable[[Envelope], None]

UNACKED_MAX_BYTES = 256 << 10
REPEAT_AFTER_S = 3.0
_NAME = re.compile(r"(\d{12})-([0-9a-f-]{36})\.json\Z")


class Outbox:
    def __init__(self, folder: Path, seal: Callable[[str, dict[str, Any]], Envelope], send: Send) -> None:
        self._folder, self._seal, self._send = folder, seal, send
        self._lock = threading.Lock()
        self._files: dict[str, Path] = {}
        self._sent_at: dict[str, float] = {}
        self._next = 1
        self._load()

    def _load(self) -> None:
        for path in sorted(self._folder.iterdir()):
            match = _NAME.match(path.name)
            if match:
                self._files[match[2]] = path
                self._next = max(self._next, int(match[1]) + 1)

    def report(self, kind: str, body: dict[str, Any]) -> str:
        """Keep the report durably, then send it once. Returns its id; OSError when it cannot be kept."""
        envelope = self._seal(kind, body)
        with self._lock:
            path = self._folder / f"{self._next:012d}-{envelope['id']}.json"
            self._next += 1
            write_json(path, envelope)
            self._files[envelope["id"]] = path
            self._sent_at[envelope["id"]] = time.monotonic()
        with suppress(ConnectionError):
            self._send(envelope)
        return str(envelope["id"])

    def say(self, kind: str, body: dict[str, Any]) -> None:
        """Send something that is worth nothing later: once, without keeping it."""
        with suppress(ConnectionError):
            self.send_now(kind, body)

    def send_now(self, kind: str, body: dict[str, Any]) -> None:
        """Send without keeping; ConnectionError when it cannot be sent."""
        self._send(self._seal(kind, body))

    def ack(self, ids: Iterable[str]) -> None:
        with self._lock:
            for report_id in ids:
                path = self._files.pop(report_id, None)
                self._sent_at.pop(report_id, None)
                if path:
                    remove(path)

    def unacked(self) -> list[Envelope]:
        """What a heartbeat repeats: the oldest reports that had time to be acked, up to a bound in bytes."""
        now, size = time.monotonic(), 0
        found: list[Envelope] = []
        with self._lock:
            waiting = sorted(self._files.items(), key=lambda item: item[1].name)
        for report_id, path in waiting:
            if now - self._sent_at.get(report_id, 0.0) < REPEAT_AFTER_S:
                continue
            envelope = read_json(path)
            if envelope is None:
                continue
            size += len(json.dumps(envelope))
            if found and size > UNACKED_MAX_BYTES:
                break
            found.append(envelope)
        return found

    def __len__(self) -> int:
        return len(self._files)
