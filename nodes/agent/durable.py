"""Small files that survive a kill at any instruction: temporary name, fsync, rename, fsync of the directory.

Every piece of state that the node service owns is such a file. A reader sees the old or the new content,
never a mixture; a leftover temporary file (`.NAME.tmp`) means nothing and is overwritten or ignored.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_durable(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data`; OSError (ENOSPC, …) leaves the old content in place."""
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_dir(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_durable(path, json.dumps(value, sort_keys=True).encode())


def read_json(path: Path) -> Any:
    """The value of a file, None if there is no such file. A file of ours that is no JSON is a ValueError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def remove(path: Path) -> None:
    """Remove a file or a whole tree; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(FileNotFoundError, IsADirectoryError):
        path.unlink()


def sync_dir(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
