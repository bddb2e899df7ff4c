"""Contents of files that users give to jobs and get from them, on the front end's disk, named by SHA-256.

Invariants: a name appears only after its bytes are on disk and were hashed; the same content is kept once.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from clusteros.core.problems import Problem, invalid
from clusteros.environment import environment

SHA256 = re.compile(r"[0-9a-f]{64}\Z")
READ_BYTES = 1 << 20


def _path(sha256: str) -> Path:
    if not SHA256.match(sha256):
        raise invalid("sha256", "not a SHA-256")
    return environment().state / "blobs" / sha256[:2] / sha256


def put_blob(chunks: Iterable[bytes], *, max_bytes: int) -> tuple[str, int]:
    """Keep the bytes durably; (SHA-256, size). Problem INVALID above max_bytes, NO_SPACE when the disk is full."""
    folder = environment().state / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".incoming-", delete=False) as out:
            return _fill_and_name(out, chunks, max_bytes)  # type: ignore[arg-type]
    except OSError as error:
        raise Problem("NO_SPACE", f"the front end cannot keep the file: {error.strerror}") from error


def _fill_and_name(out: BinaryIO, chunks: Iterable[bytes], max_bytes: int) -> tuple[str, int]:
    temporary, digest, size_bytes = Path(out.name), hashlib.sha256(), 0
    try:
        for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise invalid("file", f"larger than {max_bytes} bytes")
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
        target = _path(digest.hexdigest())
        target.parent.mkdir(exist_ok=True)
        os.replace(temporary, target)
        _fsync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest(), size_bytes


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_blob(sha256: str) -> BinaryIO:
    try:
        return _path(sha256).open("rb")
    except FileNotFoundError:
        raise Problem("NOT_FOUND", "the content of this file is not kept any more") from None
