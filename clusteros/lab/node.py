"""One node of a lab, as a machine of its own: `python -m clusteros.lab.node DIRECTORY NAME` outside, `… inside …` within.

Outside: makes the namespaces (process, mount, network, UTS, IPC), plugs the wire in, waits. Inside (process 1 of the node): an overlay of
this machine's root with the node's own upper layer, own /tmp and /run, its state directory at /clusteros and nothing of the other
nodes or of the front end; then it becomes the node's supervisor. When the outside process dies, the kernel ends the whole node.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from clusteros.lab import cgroups, network, supervise
from clusteros.lab.layout import NODE_STATE, REPOSITORY, SHARED_PLACE, STORE_PORT, Lab

PR_SET_PDEATHSIG = 1
OWN_FOLDERS = {"dev", "proc", "sys", "tmp", "run", "mnt", "lost+found"}
COVERED = (Path("/tmp"), Path("/run"), Path("/mnt"))  # nodes have their own


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run_outside(lab: Lab, name: str) -> int:
    """Start the node, plug it in, and live as long as it does."""
    index = lab.node_names().index(name)
    cgroups.join(f"{lab.cgroup}/{name}", os.getpid())
    cgroups.allow_urgent(f"{lab.cgroup}/{name}", (cgroups.URGENT_PART - cgroups.URGENT_FRONT_PART) / len(lab.node_names()))
    read_end, write_end = os.pipe()
    command = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    command += [sys.executable, "-m", "clusteros.lab.node", str(lab.directory), name, "inside", str(read_end)]
    child = subprocess.Popen(command, pass_fds=[read_end], preexec_fn=_die_with_parent)
    os.close(read_end)
    network.plug_node(index, _namespace_of(child))
    os.write(write_end, b"go")
    os.close(write_end)
    return child.wait()


def _namespace_of(child: subprocess.Popen[bytes]) -> int:
    """Pid whose network namespace is the node's: `unshare` itself, as soon as it has left ours."""
    ours = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{child.pid}/ns/net") == ours:
        if child.poll() is not None:
            raise SystemExit("unshare failed")
        time.sleep(0.01)
    return child.pid


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def make_root(lab: Lab, name: str) -> None:
    """Pivot into the node's own root: an overlay of this machine's, or what an ordinary user can have instead."""
    root = lab.node(name) / "root"
    for folder in (root, lab.node_state(name)):
        folder.mkdir(parents=True, exist_ok=True)
    _mount("--make-rprivate", "/")
    if _in_first_user_namespace():
        _lay_overlay(lab, name, root)
    else:
        _lay_binds(lab, root)
    for path in ("/dev", "/sys"):
        (root / path[1:]).mkdir(exist_ok=True)
        _mount("--rbind", path, f"{root}{path}")
    for path, kind, options in (("/proc", "proc", "nosuid"), ("/tmp", "tmpfs", "mode=1777"), ("/run", "tmpfs", "mode=755")):
        (root / path[1:]).mkdir(exist_ok=True)
        _mount("-t", kind, "-o", options, kind, f"{root}{path}")
    _show_programs(lab, root)
    _mount("--bind", str(lab.node_state(name)), f"{root}{NODE_STATE}")
    if lab.shared.is_dir():
        (root / SHARED_PLACE[1:]).mkdir(exist_ok=True)
        _mount("--bind", str(lab.shared), f"{root}{SHARED_PLACE}")
    (root / "mnt").mkdir(exist_ok=True)
    subprocess.run(["pivot_root", str(root), str(root / "mnt")], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/mnt"], check=True)


def _lay_overlay(lab: Lab, name: str, root: Path) -> None:
    upper, work = lab.node(name) / "root-upper", lab.node(name) / "root-work"
    for folder in (upper, work, upper / NODE_STATE[1:]):
        folder.mkdir(parents=True, exist_ok=True)
    _mask(upper, lab.directory)
    _mount("-t", "overlay", "node-root", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(root))


def _lay_binds(lab: Lab, root: Path) -> None:
    """An ordinary user may not overlay / itself (locked mounts, mount_namespaces(7)): a tmpfs with an own /etc, the rest bound."""
    _mount("-t", "tmpfs", "-o", "mode=755", "node-root", str(root))
    (root / NODE_STATE[1:]).mkdir()
    for entry in Path("/").iterdir():
        place = root / entry.name
        if entry.is_symlink():
            place.symlink_to(entry.readlink())
        elif entry.name == "etc":
            subprocess.run(["cp", "-a", "--no-preserve=ownership", "/etc", str(place)], check=False, stderr=subprocess.DEVNULL)
        elif entry.is_dir() and entry.name not in OWN_FOLDERS and os.access(entry, os.X_OK):
            place.mkdir()
            _mount("--rbind", str(entry), str(place))
    if not _is_covered(lab.directory):
        _hide(root, lab.directory)


def _is_covered(path: Path) -> bool:
    """Whether a node has a folder of its own in the place of this one."""
    return any(path.is_relative_to(own) for own in COVERED)


def _hide(root: Path, folder: Path) -> None:
    _mount("-t", "tmpfs", "-o", "mode=700", "tmpfs", str(root / str(folder).lstrip("/")))


def _show_programs(lab: Lab, root: Path) -> None:
    """A checkout or a Python that lies in /tmp or /run is seen in the node all the same; the lab itself is not."""
    for folder in {REPOSITORY, Path(sys.base_prefix)}:
        if _is_covered(folder):
            place = root / str(folder).lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            _mount("--bind", str(folder), str(place))
    if _is_covered(lab.directory) and (root / str(lab.directory).lstrip("/")).exists():
        _hide(root, lab.directory)


def _mask(upper: Path, hidden: Path) -> None:
    """Hide a folder of the lower root (the lab itself) behind an empty opaque one (overlayfs.rst, "opaque directories")."""
    cover = upper / str(hidden).lstrip("/")
    cover.mkdir(parents=True, exist_ok=True)
    os.setxattr(cover, "trusted.overlay.opaque", b"y")


def _in_first_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def become_supervisor(name: str, index: int, lab: Lab, settings: dict[str, Any]) -> None:
    """Never returns: the process becomes the node's supervisord with the node service under it."""
    environment = {
        "CLUSTEROS_NODE_STATE": NODE_STATE,
        "CLUSTEROS_CGROUP": f"{lab.cgroup}/{name}",
        "CLUSTEROS_NATIVE": str(REPOSITORY / "native" / "build" / "native"),
        "CLUSTEROS_NODE_NAME": name,
        "CLUSTEROS_NODE_ADDRESS": network.node_address(index),
        "CLUSTEROS_NODE_STORE_PORT": str(STORE_PORT),
        "CLUSTEROS_NODE_CORES": str(settings["cores"]),
        "CLUSTEROS_NODE_MEM_BYTES": str(settings["mem_bytes"]),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "HOME": "/root",
    }
    if Path(SHARED_PLACE).is_dir():
        environment["CLUSTEROS_SHARED_STORE"] = SHARED_PLACE
    service = {
        "command": f"{sys.executable} -m clusteros.lab.node_service",
        "directory": str(REPOSITORY),
        "environment": supervise.environment_option(environment),
        "stopwaitsecs": "15",
    }
    state = Path(NODE_STATE)
    (state / "log").mkdir(exist_ok=True)
    (state / "supervisor.sock").unlink(missing_ok=True)
    path = state / "supervisord.conf"
    path.write_text(supervise.config(state / "supervisor.sock", state / "log", {"service": service}))
    command = supervise.supervisord_command(path)
    os.execv(command[0], command)


def run_inside(lab: Lab, name: str, go_fd: int) -> None:
    """Process 1 of the node."""
    if os.read(go_fd, 2) != b"go":
        raise SystemExit("the outside of this node is gone")
    os.close(go_fd)
    index, settings = lab.node_names().index(name), lab.settings()
    socket.sethostname(name)
    network.up_node(index)
    make_root(lab, name)
    become_supervisor(name, index, lab, settings)


def main() -> None:
    """See the module's text."""
    lab, name = Lab(Path(sys.argv[1])), sys.argv[2]
    if len(sys.argv) > 3:
        run_inside(lab, name, int(sys.argv[4]))
    else:
        raise SystemExit(run_outside(lab, name))


if __name__ == "__main__":
    main()
