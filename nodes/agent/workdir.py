"""A pod's working directory, reached from outside: filled before the pod starts, read when it has ended.

Before the start it is made in the (not yet mounted) upper layer of the pod's overlay; afterwards it is read
there. The job owns the directory and is not trusted: every path component is opened without following links,
and nothing but regular files is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from native.engine import EngineError
from nodes.agent import launch
from nodes.agent.spec import PodSpec, bad, take_digest, take_int, take_path

SCRIPT = ".clusteros-script"
PRIVATE = ("/tmp", "/run", "/dev", "/proc", "/sys")
FILES_MAX = 10_000
FILE_MAX_BYTES = 1 << 40
Download = Callable[[str, BinaryIO, str, int], None]


# ---- before the start


def give(target: Path | int, spec: PodSpec) -> None:
    """To the job's user. A node service of an ordinary user cannot name that user: its pods show the service's own files as the job's."""
    _chown(target, spec.uid, spec.gid)


def _chown(target: Path | int, uid: int, gid: int) -> None:
    try:
        os.chown(target, uid, gid)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: not mapped in this user namespace, user_namespaces(7)
            raise


def fill(upper: Path, spec: PodSpec, request: dict[str, Any], download: Download) -> list[str] | None:
    """Make the working directory and /etc/clusteros in `upper`. Returns the command of this pod, None for none."""
    if spec.workdir.startswith(tuple(p + "/" for p in PRIVATE)) or spec.workdir in PRIVATE:
        raise bad(f"the working directory {spec.workdir} lies where every pod has its own empty tree")
    workdir = _make_folder(upper, PurePosixPath(spec.workdir))
    give(workdir, spec)
    workdir.chmod(0o755)
    for entry in _take_files(request.get("files")):
        _fetch(workdir, entry, spec, download)
    _write_own_files(upper, spec)
    return _command(workdir, spec, request)


def _take_files(value: Any) -> list[dict[str, Any]]:
    files = value or []
    if not isinstance(files, list) or len(files) > FILES_MAX or not all(isinstance(f, dict) for f in files):
        raise bad("files is not a list of files")
    return files


def _make_folder(upper: Path, path: PurePosixPath) -> Path:
    """Folders in the upper layer; one that the lower root has too keeps its mode and owner."""
    folder, lower = upper, Path("/")
    upper.mkdir(parents=True, exist_ok=True)
    upper.chmod(0o755)
    for part in path.parts[1:]:
        folder, lower = folder / part, lower / part
        if folder.exists():
            continue
        folder.mkdir(mode=0o755)
        with suppress(FileNotFoundError):
            info = lower.lstat()
            if not stat.S_ISDIR(info.st_mode):
                raise bad(f"{lower} is not a directory on this node")
            _chown(folder, info.st_uid, info.st_gid)
            folder.chmod(stat.S_IMODE(info.st_mode))
    return folder


def _fetch(workdir: Path, entry: dict[str, Any], spec: PodSpec, download: Download) -> None:
    path = take_path(entry.get("path"), "the path of a file", absolute=False)
    size, digest = take_int(entry, "size", 0, FILE_MAX_BYTES), take_digest(entry.get("sha256"))
    folder = workdir
    for part in path.parts[:-1]:
        folder = folder / part
        folder.mkdir(mode=0o755, exist_ok=True)
        give(folder, spec)
    with (folder / path.name).open("wb") as target:
        download(str(entry.get("url")), target, digest, size)
        give(target.fileno(), spec)
        os.fchmod(target.fileno(), 0o755 if entry.get("executable") else 0o644)


def _write_own_files(upper: Path, spec: PodSpec) -> None:
    own = _make_folder(upper, PurePosixPath(launch.OWN))
    for path, content in {launch.JOB_FILE: launch.job_file(spec), **launch.hostfiles(spec)}.items():
        target = own / PurePosixPath(path).name
        target.write_bytes(content)
        target.chmod(0o644)


def _command(workdir: Path, spec: PodSpec, request: dict[str, Any]) -> list[str] | None:
    script, command = request.get("script"), request.get("command")
    if isinstance(script, str) and script:
        return _write_script(workdir, spec, script)
    if command is None:
        return None
    if not isinstance(command, list) or not command or not all(isinstance(a, str) and "\0" not in a for a in command):
        raise bad("command is not a list of texts")
    if not find_command(command[0], workdir, spec):
        raise EngineError("NO_COMMAND", f"{command[0]}: not found, or not executable, in the pod")
    return command


def _write_script(workdir: Path, spec: PodSpec, script: str) -> list[str]:
    path = workdir / SCRIPT
    path.write_text(script if script.endswith("\n") else script + "\n")
    give(path, spec)
    path.chmod(0o755)
    return [f"./{SCRIPT}"] if script.startswith("#!") else ["/bin/sh", f"./{SCRIPT}"]


def find_command(name: str, workdir: Path, spec: PodSpec) -> bool:
    """Whether the name will be found in the pod: the uploaded files first, then the root that the pod lies on."""
    if "/" in name and not name.startswith("/"):
        return _executable(workdir / name) or _executable(Path(spec.workdir) / name)
    if name.startswith("/"):
        inside = PurePosixPath(name)
        uploaded = inside.is_relative_to(spec.workdir) and _executable(workdir / inside.relative_to(spec.workdir))
        return uploaded or _executable(Path(name)) or name.startswith(launch.TOOLS)
    folders = launch.environment(spec)["PATH"].split(":")
    return any(_executable(Path(folder) / name) for folder in folders if folder.startswith("/"))


def _executable(path: Path) -> bool:
    """Permission for the job's own uid is for the kernel to say; here: a file that anybody may execute."""
    try:
        info = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and bool(info.st_mode & 0o111)


# ---- after the end


def _open_below(root: Path, path: PurePosixPath) -> int:
    """A folder below `root`, no component of which is a link. The caller closes it."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in path.parts:
        try:
            child = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        finally:
            os.close(fd)
        fd = child
    return fd


@contextmanager
def open_file(upper: Path, spec: PodSpec, path: str) -> Iterator[BinaryIO]:
    """A regular file of the working directory, opened for reading. OSError if it is gone or something else."""
    relative = take_path(path, "path", absolute=False)
    folder = _open_below(upper, PurePosixPath(spec.workdir.lstrip("/")) / relative.parent)
    try:
        fd = os.open(relative.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield file


def list_files(upper: Path, spec: PodSpec) -> list[dict[str, Any]]:
    """[{path, size, sha256, mtime}] of the regular files of the working directory; links and devices are left out."""
    try:
        top = _open_below(upper, PurePosixPath(spec.workdir.lstrip("/")))
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    try:
        for folder, folders, names, fd in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            folders.sort()
            for name in sorted(names):
                if len(found) >= FILES_MAX:
                    return found
                with suppress(OSError, UnicodeEncodeError):  # gone meanwhile, or a name that cannot travel
                    found += _describe(fd, name, str(PurePosixPath(folder) / name))
    finally:
        os.close(top)
    return found


def _describe(folder: int, name: str, path: str) -> list[dict[str, Any]]:
    """The entry of one file; nothing for what is no regular file or is the system's own."""
    path.encode()
    if path == SCRIPT or not stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode):
        return []
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return []
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return [{"path": path, "size": info.st_size, "sha256": digest, "mtime": info.st_mtime}]
