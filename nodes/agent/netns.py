"""Network namespaces as files: make one, work inside it, remove it.

A namespace belongs to a thread, so work inside is done in a thread of its own that ends afterwards: the
service's other threads never change namespace. Python 3.11 has no os.setns, hence libc by ctypes.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # carried over to the caller
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def inside(path: Path, work: Callable[[], T]) -> T:
    """Run `work` in the namespace that is bound to `path`; sockets opened there stay there."""

    def run() -> T:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(fd, CLONE_NEWNET), f"enter the network namespace {path}")
        finally:
            os.close(fd)
        return work()

    return _in_thread(run)


def exists(path: Path) -> bool:
    """Whether a namespace is bound to `path` (a plain file there is what is left after a boot)."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def create(path: Path) -> None:
    """A new namespace bound to `path`; nothing happens when there is one."""
    if exists(path):
        return
    path.touch(mode=0o600)

    def run() -> None:
        _checked(_libc.unshare(CLONE_NEWNET), "make a network namespace")
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
        _checked(_libc.mount(source, str(path).encode(), b"none", MS_BIND, None), f"bind a network namespace to {path}")

    _in_thread(run)


def destroy(path: Path) -> None:
    """Unbind and remove; the namespace goes when nobody is in it any more."""
    while exists(path):
        _checked(_libc.umount2(str(path).encode(), MNT_DETACH), f"unbind {path}")
    with suppress(FileNotFoundError):
        path.unlink()
