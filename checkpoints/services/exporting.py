"""A whole generation as one file, for a shelf outside the cluster: a tar that importing.py, or the engine alone, opens again.

NAME/README, NAME/certificate.json (signed with the cluster's key: it names every image by digest), then for each pod
NAME/pod-N/manifest and NAME/pod-N/chunks-NNNNN, each of which `native store-import` takes. A chunk that several pods need is there
once, with the first of them. Only one batch of chunks is in memory at a time; any node that holds a pod's image serves any batch,
so that a node may go while the file is being made. What ends early has no `NAME/end`.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import IO

import httpx

from checkpoints.models import Generation, Snapshot
from checkpoints.services.plans import check_usable
from checkpoints.services.replicas import holders_of
from checkpoints.services.stores import ask_first
from clusteros.core.problems import Problem
from nodes.models import Node

TIMEOUT = httpx.Timeout(320.0, connect=3.0)
BATCH_BYTES, BATCH_CHUNKS = 16 << 20, 2048
"""A node gives at most 4096 chunks for one request (nodes/agent/storeserver.py)."""
PIECE_BYTES = 1 << 20
LISTING_IN_MEMORY_BYTES = 4 << 20
MAGIC, FRAME_BYTES = b"COSCHNKS", 48
_FRAME = struct.Struct("<32sII")
_LINE = re.compile(rb"([0-9a-f]{64}) ([1-9][0-9]{0,6})\n\Z")
README = """Generation {number} of job {job} of a ClusterOS cluster, taken at {taken_at}.

Into the cluster that made it: `clusteros node import FILE` on a node, then `clusteros server import FILE` on the front end.

The engine alone opens it too (native --help). All pods' chunks go into one store, then each pod N has an image:
    for part in pod-*/chunks-*; do native store-import --store STORE < $part; done
    native image-import --dir IMAGE-N --store STORE --digest DIGEST-N < pod-N/manifest
    native verify IMAGE-N --store STORE
    native restore --image IMAGE-N --store STORE --pod POD-N
DIGEST-N stands in certificate.json, and is the SHA-256 of pod-N/manifest. A file "end" is last: without it something is missing.
"""


@dataclass(frozen=True)
class Chunk:
    digest: bytes
    length: int
    """Bytes of its content."""


@dataclass
class Export:
    """What is needed without the database: it is read before the first byte goes out."""

    name: str
    taken_at: float
    readme: str
    certificate: bytes
    pods: list[tuple[int, str, list[Node]]]
    """(pod, digest, who holds it)."""
    sent: set[bytes] = field(default_factory=set)


def open_export(generation: Generation) -> tuple[Iterator[bytes], str]:
    """(the bytes of the tar, its name). Problem: an image is nowhere; later ones end the bytes early by an exception."""
    check_usable(generation)
    export = _prepare(generation)
    return _tar(export), export.name


def _prepare(generation: Generation) -> Export:
    snapshots = list(Snapshot.objects.filter(generation=generation).order_by("pod"))
    held = holders_of(row.digest for row in snapshots)
    for row in snapshots:
        if not held[row.digest]:
            raise Problem("LOST", f"no node that is up holds the image of pod {row.pod}")
    job = generation.job
    readme = README.format(number=generation.number, job=job.number, taken_at=generation.taken_at.isoformat(timespec="seconds"))
    certificate = json.dumps(generation.certificate, indent=1).encode()
    pods = [(row.pod, row.digest, held[row.digest]) for row in snapshots]
    return Export(f"job{job.number}-g{generation.number}", generation.taken_at.timestamp(), readme, certificate, pods)


def _tar(export: Export) -> Iterator[bytes]:
    yield _member(export, "README", export.readme.encode()) + _member(export, "certificate.json", export.certificate)
    for pod, digest, nodes in export.pods:
        yield from _pod(export, pod, digest, nodes)
    yield _member(export, "end", b"") + b"\0" * 2 * tarfile.BLOCKSIZE


def _pod(export: Export, pod: int, digest: str, nodes: list[Node]) -> Iterator[bytes]:
    yield from _manifest(export, pod, digest, nodes)
    with _listing(pod, digest, nodes) as listing:
        for number, batch in enumerate(_batches(listing, export.sent)):
            yield _member(export, f"pod-{pod}/chunks-{number:05d}", _chunks(pod, digest, batch, nodes))


def _manifest(export: Export, pod: int, digest: str, nodes: list[Node]) -> Iterator[bytes]:
    found, length = hashlib.sha256(), 0
    with closing(ask_first(nodes, pod, f"images/{digest}/manifest", timeout=TIMEOUT)) as answer:
        told = int(answer.headers.get("Content-Length", 0))
        yield _header(export, f"pod-{pod}/manifest", told)
        for piece in answer.iter_bytes(PIECE_BYTES):
            found.update(piece)
            length += len(piece)
            yield piece
    if length != told or found.hexdigest() != digest:
        raise Problem("IO", f"the manifest of pod {pod} that its node gave is not the right one")
    yield _padding(length)


@contextmanager
def _listing(pod: int, digest: str, nodes: list[Node]) -> Iterator[IO[bytes]]:
    """Taken down at once: whoever reads the export may be slow, and the node does not wait for ever."""
    with tempfile.SpooledTemporaryFile(LISTING_IN_MEMORY_BYTES) as kept:
        with closing(ask_first(nodes, pod, f"images/{digest}/chunks", timeout=TIMEOUT)) as answer:
            for piece in answer.iter_bytes(PIECE_BYTES):
                kept.write(piece)
        kept.seek(0)
        yield kept


def _batches(listing: IO[bytes], sent: set[bytes]) -> Iterator[list[Chunk]]:
    """The image's chunks that no batch had yet, in few megabytes each."""
    batch: list[Chunk] = []
    size = 0
    for line in listing:
        chunk = _chunk_of(line)
        if chunk.digest in sent:
            continue
        sent.add(chunk.digest)
        batch.append(chunk)
        size += chunk.length
        if size >= BATCH_BYTES or len(batch) == BATCH_CHUNKS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _chunk_of(line: bytes) -> Chunk:
    found = _LINE.match(line)
    if found is None:
        raise Problem("IO", "a node's list of chunks is not one, or was cut off")
    return Chunk(bytes.fromhex(found[1].decode()), int(found[2]))


def _chunks(pod: int, image: str, batch: list[Chunk], nodes: list[Node]) -> bytes:
    """A whole stream of these chunks, from the first holder that has all of them. It has checked each; so will who takes them."""
    most = len(MAGIC) + sum(FRAME_BYTES + each.length for each in batch) + FRAME_BYTES
    wanted = [each.digest.hex() for each in batch]
    for node in nodes:
        try:
            with closing(ask_first([node], pod, "chunks", timeout=TIMEOUT, method="POST", image=image, json=wanted)) as answer:
                stream = _at_most(answer, most)
        except (Problem, httpx.HTTPError):
            continue
        if _is_whole(stream, batch):
            return stream
    raise Problem("LOST", f"no node that is up gave all chunks of pod {pod}")


def _at_most(answer: httpx.Response, most: int) -> bytes:
    data = bytearray()
    for piece in answer.iter_bytes(PIECE_BYTES):
        data += piece
        if len(data) > most:
            break
    return bytes(data)


def _is_whole(stream: bytes, batch: list[Chunk]) -> bool:
    """The frames of native/store/stream.h: these chunks in this order, and the frame of zeros as the end."""
    at = len(MAGIC)
    for chunk in batch:
        digest, raw, stored = _FRAME.unpack_from(stream, at) if len(stream) >= at + FRAME_BYTES else (b"", 0, 0)
        if (digest, raw) != (chunk.digest, chunk.length):
            return False
        at += FRAME_BYTES + stored
    return stream.startswith(MAGIC) and stream[at:] == bytes(FRAME_BYTES)


# ---- members of the tar


def _member(export: Export, name: str, data: bytes) -> bytes:
    return _header(export, name, len(data)) + data + _padding(len(data))


def _header(export: Export, name: str, size: int) -> bytes:
    about = tarfile.TarInfo(f"{export.name}/{name}")
    about.size, about.mtime, about.mode = size, int(export.taken_at), 0o600
    return about.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
