"""One node of a lab, as a machine of its own: `python -m clusteros.lab.node DIRECTORY NAME` outside, `… inside …` within.

Outside: makes the namespaces (process, mount, network, UTS, IPC), plugs the wire in, waits. Inside (process 1 of the node): an overlay of
this machine's root with the node's own upper layer, own /tmp and /run, its state directory at /var/lib/clusteros and nothing of the other
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
from clusteros.lab.layout import NODE_STATE, REPOSITORY, STORE_PORT, Lab

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run_outside(lab: Lab, name: str) -> int:
    """Start the node, plug it in, and live as long as it does."""
    index = lab.node_names().index(name)
    cgroups.join(f"{lab.cgroup}/{name}", os.getpid())
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
    """Pivot into the node's own root."""
    own = lab.node(name)
    upper, work, root = own / "root-upper", own / "root-work", own / "root"
    for folder in (upper, work, root, lab.node_state(name)):
        folder.mkdir(parents=True, exist_ok=True)
    _mask(upper, lab.directory)
    (upper / NODE_STATE.lstrip("/")).mkdir(parents=True, exist_ok=True)
    _mount("--make-rprivate", "/")
    options = f"lowerdir=/,upperdir={upper},workdir={work}"
    _mount("-t", "overlay", "node-root", "-o", options + ("" if _in_first_user_namespace() else ",userxattr"), str(root))
    for path in ("/dev", "/sys"):
        _mount("--rbind", path, f"{root}{path}")
    _mount("-t", "proc", "proc", f"{root}/proc")
    for path, mode in (("/tmp", "1777"), ("/run", "755")):
        _mount("-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", f"{root}{path}")
    _mount("--bind", str(lab.node_state(name)), f"{root}{NODE_STATE}")
    (root / "mnt").mkdir(exist_ok=True)
    subprocess.run(["pivot_root", str(root), str(root / "mnt")], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/mnt"], check=True)


def _mask(upper: Path, hidden: Path) -> None:
    """Hide a folder of the lower root (the lab itself) behind an empty opaque one (overlayfs.rst, "opaque directories")."""
    cover = upper / str(hidden).lstrip("/")
    cover.mkdir(parents=True, exist_ok=True)
    attribute = "trusted.overlay.opaque" if _in_first_user_namespace() else "user.overlay.opaque"
    os.setxattr(cover, attribute, b"y")


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
