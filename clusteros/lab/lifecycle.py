"""`up` and `down`: the life of a lab as a whole.

Everything that `up` makes hangs on one process; `down` ends it and looks that nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusteros import login as login_file
from clusteros.lab import cgroups
from clusteros.lab.layout import LISTEN_FD, REPOSITORY, Lab, make_settings

UP_TIMEOUT_S = 120.0
DEFAULT_PORT = 8080
LOOPBACK = ("127.0.0.1", "localhost", "::1")
Say = Callable[[str], None]


class LabError(RuntimeError):
    """The lab cannot be started or stopped; the text says what to do."""


def pid_of(lab: Lab) -> int | None:
    """Pid of the lab's outermost process when it lives, else None. Its start time guards against a reused number."""
    path = lab.directory / "lab.pid"
    if not path.exists():
        return None
    pid, start = path.read_text().split()
    return int(pid) if _start_time(int(pid)) == start else None


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat; None for a process that is gone or dead (a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _listen(port: int) -> socket.socket:
    """The console's socket on this machine's loopback: the wanted port, or the next free one."""
    for candidate in range(port, port + 50):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
        except OSError:
            listener.close()
            continue
        listener.listen(256)
        return listener
    raise LabError(f"no free port between {port} and {port + 49} on 127.0.0.1: name another with PORT=…")


def _start(lab: Lab, listener: socket.socket) -> int:
    command = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    command += ["--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    command += [sys.executable, "-m", "clusteros.lab.front", str(lab.directory)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # services start again within seconds only when they are compiled
    os.dup2(listener.fileno(), LISTEN_FD, inheritable=True)
    log = (lab.directory / "lab.log").open("ab")
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[LISTEN_FD], start_new_session=True,
        env=environment, cwd=REPOSITORY,
    )  # fmt: skip
    os.close(LISTEN_FD)
    (lab.directory / "lab.pid").write_text(f"{process.pid} {_start_time(process.pid)}")
    return process.pid


def url_of(lab: Lab) -> str:
    """Address of the console and the API."""
    return f"http://127.0.0.1:{lab.settings()['port']}"


def _nodes_up(lab: Lab) -> int:
    login = read_login(lab)
    request = urllib.request.Request(f"{url_of(lab)}/api/v1/nodes", headers={"Authorization": f"Bearer {login['admin']['token']}"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return sum(node["state"] == "up" for node in json.load(response)["items"])


def _wait_until_up(lab: Lab, wanted: int, say: Say) -> None:
    deadline, seen = time.monotonic() + UP_TIMEOUT_S, -1
    while seen < wanted:
        if pid_of(lab) is None:
            raise LabError(f"the lab ended while it started: see {lab.directory}/lab.log and {lab.front}/log/")
        if time.monotonic() > deadline:
            raise LabError(f"the lab is not up after {UP_TIMEOUT_S:.0f} s ({max(seen, 0)} of {wanted} nodes): see {lab.front}/log/")
        try:
            now = _nodes_up(lab)
        except (OSError, urllib.error.URLError, ValueError, KeyError):
            now = -1
        if now != seen and now >= 0:
            say(f"{now} of {wanted} nodes are up")
        seen = now
        time.sleep(0.2)


def up(lab: Lab, *, nodes: int = 3, port: int = DEFAULT_PORT, cores: int = 4, mem_bytes: int = 8 << 30, say: Say = print) -> None:
    """Start the lab, or say that it runs; returns when the API answers and every node is up.

    Raises:
        LabError: it did not come up.
    """
    if pid_of(lab) is not None:
        say("the lab is running already")
    else:
        lab.directory.mkdir(parents=True, exist_ok=True)
        listener = _listen(port)
        make_settings(lab, nodes, listener.getsockname()[1], cores, mem_bytes)
        _start(lab, listener)
        listener.close()
    _wait_until_up(lab, sum(lab.node(n).exists() or not _destroyed(lab, n) for n in lab.node_names()), say)
    write_login(lab, say)
    for line in missing_here():
        say(line)


def missing_here() -> list[str]:
    """What this user's clusters cannot do, and root's can (docs/rootless.md has the whole list)."""
    if os.geteuid() == 0:
        return []
    lines = ["you are not root: jobs that watch files (inotify) or have made themselves unreadable cannot be checkpointed"]
    if not cgroups.writable():
        lines.append("you may make no cgroups: no memory limits, no suspending; a pod that loses its lease ends instead of waiting frozen")
    return lines


def _destroyed(lab: Lab, name: str) -> bool:
    return (lab.directory / "destroyed" / name).exists()


def read_login(lab: Lab) -> dict[str, Any]:
    """Users with passwords and tokens, as `bootstrap` made them."""
    return dict(json.loads(lab.login_file.read_text()))


def write_login(lab: Lab, say: Say) -> None:
    """The lab's own login file, and the one that the command line finds by itself, unless that is for a cluster elsewhere."""
    login = login_file.Login(url_of(lab), read_login(lab)["demo"]["token"])
    login_file.write_login(login, lab.own_login_file)
    try:
        other = login_file.kept_url()
    except login_file.NoLogin:
        other = ""
    if other and (urllib.parse.urlsplit(other).hostname or "") not in LOOPBACK:
        say(f"you are logged in at {other}, and stay so; for this lab:  export CLUSTEROS_LOGIN={lab.own_login_file}")
        return
    login_file.write_login(login)


def down(lab: Lab, *, wipe: bool = False, say: Say = print) -> None:
    """Stop the lab; with `wipe` its directory goes too. Nothing of it is left running.

    Raises:
        LabError: something would not go; it is named.
    """
    pid = pid_of(lab)
    if pid is None:
        say("no lab is running")
    else:
        _end(lab, pid)
        say("the lab is stopped")
    (lab.directory / "lab.pid").unlink(missing_ok=True)
    left = cgroups.remove(lab.cgroup)
    if left:
        raise LabError("these cgroups are still in use: " + ", ".join(map(str, left)))
    if wipe:
        _delete(lab.directory)


def _delete(tree: Path) -> None:
    """With what overlayfs leaves there: folders of mode 000, which nobody but root may enter as they are."""
    for folder, names, _ in os.walk(tree):
        for path in (Path(folder, name) for name in names):
            if os.geteuid() != 0 and not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(tree, ignore_errors=True)


def _end(lab: Lab, pid: int) -> None:
    """Let PostgreSQL and Redis finish, then end the first process: the kernel ends the rest with it."""
    from clusteros.lab.supervise import control

    try:
        supervisor = control(lab.socket)
        for name in ("postgres", "redis"):
            supervisor.stopProcess(name)
    except OSError:
        pass
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _start_time(pid) is not None and time.monotonic() < deadline:
        _reap(pid)
        time.sleep(0.02)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def destroy_node(lab: Lab, name: str) -> None:
    """Lose a node for good: all its processes at once, then its disk."""
    from clusteros.lab.supervise import control

    control(lab.socket).stopProcess(name)
    (lab.directory / "destroyed").mkdir(exist_ok=True)
    (lab.directory / "destroyed" / name).touch()
    _delete(lab.node(name))
