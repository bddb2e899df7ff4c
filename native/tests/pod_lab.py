"""What the tests of pods share: TAP, a scratch directory, pods that are surely ended, a hub network namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NATIVE = Path(os.environ.get("CLUSTEROS_NATIVE") or HERE.parent / "build" / "native")
TIMEOUT_S = 60
_count = 0
_failed = 0


def ok(good: bool, sentence: str, detail: object = "") -> bool:
    global _count, _failed
    _count += 1
    _failed += not good
    print(f"{'ok' if good else 'not ok'} {_count} - {sentence}", flush=True)
    if not good and detail != "":
        print(f"# {detail}", flush=True)
    return good


def finish() -> int:
    print(f"1..{_count}")
    return 1 if _failed else 0


def native(*args: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run([str(NATIVE), *map(str, args)], capture_output=True, timeout=TIMEOUT_S, **source)


def last(result: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    lines = result.stdout.decode(errors="replace").strip().splitlines() or result.stderr.decode(errors="replace").strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"event": "nothing", "stdout": result.stdout, "stderr": result.stderr}


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Waits for something that nobody announces; bounded."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory for programs that pods start: /tmp is another one inside a pod."""
    place = Path(tempfile.mkdtemp(prefix=f"clusteros-{name}-", dir="/var/tmp"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Lab:
    """A scratch directory with pods; leaving it ends whatever is left of them."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="clusteros-pod-test-"))
        self.hubs: list[str] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        for state in self.dir.glob("*/state"):
            native("kill", "--pod", state.parent)
        for hub in self.hubs:
            subprocess.run(["ip", "netns", "del", hub], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def pod(self, name: str) -> Path:
        return self.dir / name

    def run(self, name: str, *command: object, options: tuple[object, ...] = ()) -> dict[str, Any]:
        return last(native("run", "--pod", self.pod(name), *options, "--", *command))

    def stat(self, name: str) -> dict[str, Any]:
        return last(native("stat", "--pod", self.pod(name)))

    def exec(
        self, name: str, *command: object, options: tuple[object, ...] = (), stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return native("exec", "--pod", self.pod(name), *options, "--", *command, stdin=stdin)

    def wait(self, name: str) -> dict[str, Any]:
        return last(native("wait", "--pod", self.pod(name), "--timeout", 30))

    def hub(self) -> str:
        """A network namespace with a bridge br0 at 10.77.255.254/16; its path."""
        name = f"clusteros-test-{os.getpid()}-{len(self.hubs)}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.hubs.append(name)
        for line in ("link add br0 type bridge", "addr add 10.77.255.254/16 dev br0", "link set br0 up", "link set lo up"):
            subprocess.run(["ip", "-n", name, *line.split()], check=True)
        return f"/var/run/netns/{name}"


def leftovers(state: dict[str, str]) -> list[str]:
    """What should be gone of a pod: its control groups, its processes."""
    groups = [path for key, path in state.items() if key.startswith("cgroup.") and path and Path(path).exists()]
    return groups + [f"process {pid}" for pid in (state.get("init_pid", "0"),) if is_alive(pid)]


def is_alive(pid: str) -> bool:
    """Zombies are gone: on some machines pid 1 takes its time to reap them."""
    try:
        return pid != "0" and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def read_state(pod: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (pod / "state").read_text().splitlines() if "=" in line)
