"""Store servers that answer as the protocol says, for tests of who asks them."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from checkpoints.models import Generation, Replica, Snapshot
from clusteros.envelope import EnvelopeError, check_ticket

DEAD = "http://127.0.0.1:9"


class FakeStore(BaseHTTPRequestHandler):
    """What every one of them does; the tests' own say what is there (do_GET, do_POST)."""

    def may_read(self, secret: str) -> bool:
        try:
            check_ticket(self.headers.get("X-ClusterOS-Ticket", ""), secret)
        except EnvelopeError:
            return False
        return True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say_json(self, status: int, answer: Any) -> None:
        self.say(status, json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(kind: type[FakeStore]) -> Iterator[str]:
    """Its address, while it serves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


# ---- a store with the images of two pods that share a chunk

CHUNKS = [bytes([65 + k]) * (100 * k + 1) for k in range(5)]
NAMES = [hashlib.sha256(chunk).hexdigest() for chunk in CHUNKS]
PODS = {"the manifest of pod 0": [0, 1, 2], "the manifest of pod 1": [2, 3, 4]}
"""The chunks that each needs."""


class TwoPods(FakeStore):
    """`spoil` makes another stream of a right one."""

    spoil: Callable[[bytes], bytes] = staticmethod(lambda stream: stream)

    def do_GET(self) -> None:
        _, _, digest, what = self.path.split("/")
        manifest = next(text for text in PODS if hashlib.sha256(text.encode()).hexdigest() == digest)
        lines = "".join(f"{NAMES[k]} {len(CHUNKS[k])}\n" for k in PODS[manifest])
        self.say(200, (manifest if what == "manifest" else lines).encode())

    def do_POST(self) -> None:
        stream = b"COSCHNKS"
        for name in json.loads(self.body()):
            chunk = CHUNKS[NAMES.index(name)]
            stream += struct.pack("<32sIIII", bytes.fromhex(name), len(chunk), len(chunk), 0, 0) + chunk
        self.say(200, TwoPods.spoil(stream + bytes(48)))


def give_images(generation: Generation) -> None:
    """The generation of two pods has these images."""
    for row, manifest in zip(Snapshot.objects.filter(generation=generation).order_by("pod"), PODS, strict=True):
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        Replica.objects.filter(digest=row.digest).update(digest=digest)
        Snapshot.objects.filter(pk=row.pk).update(digest=digest)
