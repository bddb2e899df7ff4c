"""A node of one's own for tests: namespaces, a real Redis, the real service as a Celery worker; the test plays the control side.

Everything of the node lives in a process, mount and network namespace below one holder process: when the holder is
killed, the kernel ends all of it. What the node says is read from the queue `control`; heartbeats are answered with
leases unless a test holds them back.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import redis
from celery import Celery
from kombu import Connection

from clusteros.envelope import open_sealed, seal
from clusteros.lab import cgroups
from clusteros.lab.embedded import start_redis
from native.engine import Engine
from nodes.agent.config import NodeConfig

ROOT = Path(__file__).resolve().parents[2]
NAME, SECRET = "node1", "a secret of the node"
FRONT_PORT = 8123
TTL_S = 8.0
T = TypeVar("T")


def wait_for(what: str, found: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """The first answer that is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {timeout_s} s")


def die_with_parent() -> None:
    """For preexec_fn: a test that is killed leaves nothing."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)


class Holder:
    """The node's namespaces."""

    def __init__(self) -> None:
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
        command += ["sh", "-c", "ip link set lo up; echo ready; exec sleep 3600"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        assert self._process.stdout
        self._process.stdout.readline()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.init_pid = int(children[0])

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", "--target", str(self.init_pid), "--net", "--mount", "--pid", "--", *argv]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


class Control(threading.Thread):
    """The control side of one node: takes reports, answers heartbeats, sends commands."""

    def __init__(self, url: str) -> None:
        super().__init__(name="control", daemon=True)
        self.app = Celery("test.control", broker=url, set_as_current=False)
        self.app.conf.update(task_ignore_result=True, broker_transport_options={"visibility_timeout": 300})
        self._url = url
        self._lock = threading.Lock()
        self._stop_wanted = threading.Event()
        self._reports: list[dict[str, Any]] = []
        self._heartbeats: list[dict[str, Any]] = []
        self.acking = True
        self.leasing = True
        self.log: dict[tuple[str, int, str], bytearray] = {}
        self.log_bases: dict[tuple[str, int, str], int] = {}

    def run(self) -> None:
        while not self._stop_wanted.is_set():
            with contextlib.suppress(Exception), Connection(self._url) as connection:
                queue = connection.SimpleQueue("control")
                while not self._stop_wanted.is_set():
                    with contextlib.suppress(queue.Empty):
                        message = queue.get(timeout=0.2)
                        message.ack()
                        self._take(message.payload[0][0])

    def stop(self) -> None:
        self._stop_wanted.set()
        self.join(5)

    def _take(self, envelope: dict[str, Any]) -> None:
        opened = open_sealed(envelope, SECRET)
        if opened["kind"] == "heartbeat":
            with self._lock:
                self._heartbeats.append(opened)
            for repeated in opened["body"]["unacked"]:
                self._note(open_sealed(repeated, SECRET))
            self._answer(opened)
        else:
            self._note(opened)

    def _note(self, opened: dict[str, Any]) -> None:
        import base64

        with self._lock:
            if opened["id"] in {report["id"] for report in self._reports}:
                return
            self._reports.append(opened)
            if opened["kind"] == "log":
                body = opened["body"]
                key = (body["run"], body["pod"], body["stream"])
                known, base = self.log.setdefault(key, bytearray()), self.log_bases.setdefault(key, body["offset"])
                if body["offset"] - base <= len(known):
                    known[body["offset"] - base :] = base64.b64decode(body["data"])

    def _answer(self, opened: dict[str, Any]) -> None:
        body = opened["body"]
        pods = [{k: pod[k] for k in ("run", "epoch", "pod")} for pod in body["pods"]] if self.leasing else []
        logs: dict[tuple[str, int], dict[str, Any]] = {}
        with self._lock:
            acked = [report["id"] for report in self._reports] if self.acking else []
            for (run, pod, stream), data in self.log.items():
                base = self.log_bases[run, pod, stream]
                logs.setdefault((run, pod), {"run": run, "pod": pod})[stream] = base + len(data)
        answer = {"heartbeat_boottime_ns": body["boottime_ns"], "ttl_s": TTL_S, "pods": pods, "ended": [], "acked": acked}
        self.send("lease", {**answer, "logs": list(logs.values())})

    def send(self, kind: str, body: dict[str, Any], *, secret: str = SECRET, id: str | None = None) -> None:
        envelope = seal(NAME, secret, kind, body, id=id)
        self.app.send_task("nodes.agent.act", args=[envelope], queue=f"node.{NAME}", retry=False)

    # ---- what was heard

    def reports(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Bodies of the reports of a kind whose fields are these, oldest first."""
        with self._lock:
            bodies = [report["body"] for report in self._reports if report["kind"] == kind]
        return [body for body in bodies if all(body.get(key) == value for key, value in fields.items())]

    def wait_report(self, kind: str, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next(iter(self.reports(kind, **fields)[::-1]), None)

        return wait_for(f"report {kind} {fields}", found, timeout_s)

    def heartbeat(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """The body of a heartbeat sent after this call."""
        now = time.time()
        return wait_for("a heartbeat", lambda: self._newer(now), timeout_s)

    def _newer(self, moment: float) -> dict[str, Any] | None:
        with self._lock:
            return next((h["body"] for h in self._heartbeats if h["sent_at"] > moment), None)

    def text(self, run: str, pod: int, stream: str) -> bytes:
        with self._lock:
            return bytes(self.log.get((run, pod, stream), b""))


class TestNode:
    """One node with its service. Use as a context manager."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.engine = folder, Engine()
        self.redis = start_redis(folder / "redis")
        socket = folder / "redis" / "redis.sock"
        self.config = NodeConfig(
            folder / "n", NAME, SECRET, f"http://127.0.0.1:{FRONT_PORT}", f"redis+socket://{socket}", "127.0.0.1", 7711, 4, 1 << 30, 0.5,
            lazy_restore_bytes=4 << 20,
        )
        self.config.save()
        self.client = redis.Redis(unix_socket_path=str(socket))
        self.cgroup = f"clusteros-test-{os.getpid()}-{folder.name[-8:]}"
        for hierarchy in cgroups.hierarchies():
            (hierarchy / self.cgroup).mkdir(parents=True, exist_ok=True)
        self.holder = Holder()
        self.files, self.uploads = folder / "files", folder / "uploads"
        self.files.mkdir()
        front = [sys.executable, "-m", "tests.node.front_server", str(self.files), str(self.uploads), NAME, SECRET, str(FRONT_PORT)]
        self.front = subprocess.Popen(self.holder.command(*front), cwd=ROOT)
        self.control = Control(self.config.redis_url)
        self.service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> TestNode:
        self.control.start()
        self.start_service()
        return self

    def __exit__(self, *_: object) -> None:
        self.control.stop()
        self.holder.end()
        self.front.wait()
        if self.service:
            self.service.wait()
        self.redis.stop()
        wait_for("the cgroups empty", self._remove_cgroups, 10)

    def _remove_cgroups(self) -> bool:
        folders = [folder for top in cgroups.ROOT.glob(f"*/{self.cgroup}") for folder in (top, *top.rglob("*")) if folder.is_dir()]
        for folder in sorted(folders, key=lambda f: -len(f.parts)):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return not any(cgroups.ROOT.glob(f"*/{self.cgroup}"))

    def start_service(self) -> None:
        worker = [sys.executable, "-m", "celery", "-A", "clusteros.node_app", "worker", "-Q", f"node.{NAME}", "-n", f"node@{NAME}"]
        worker += ["--pool", "threads", "--concurrency", "8", "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        environment = {**os.environ, "CLUSTEROS_NODE_STATE": str(self.config.state), "CLUSTEROS_CGROUP": self.cgroup}
        environment["PYTHONPATH"] = str(ROOT)
        environment.pop("DJANGO_SETTINGS_MODULE", None)  # a node has no Django
        with (self.folder / "service.log").open("ab") as log:
            self.service = subprocess.Popen(self.holder.command(*worker), stdout=log, stderr=log, env=environment, cwd=ROOT)

    def kill_service(self) -> None:
        """kill -9, as the machine's owner would."""
        assert self.service
        pids = Path(f"/proc/{self.service.pid}/task/{self.service.pid}/children").read_text().split()
        for pid in [*pids, str(self.service.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        self.service.wait()

    def holder_kill(self, pid: int) -> None:
        """kill -9 of a process by its number inside the node."""
        subprocess.run(self.holder.command("kill", "-9", str(pid)), check=True, timeout=10)

    def clean(self) -> None:
        """Between tests: the service runs, no pod, no image, nothing held back."""
        self.control.acking = self.control.leasing = True
        if self.service is None or self.service.poll() is not None:
            self.start_service()
        wait_for("no pod and no image", self._end_everything, 90)

    def _end_everything(self) -> bool:
        beat = self.control.heartbeat()
        for pod in beat["pods"]:
            self.control.send("end_pod", {key: pod[key] for key in ("run", "epoch", "pod")})
        if beat["images"]:
            self.control.send("remove_images", {"digests": [image["digest"] for image in beat["images"]]})
        return not beat["pods"] and not beat["images"]

    def native(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.holder.command(str(self.engine.binary), *arguments), capture_output=True, timeout=30)

    def offer(self, path: str, content: bytes, *, executable: bool = False) -> dict[str, Any]:
        """Put a file at the front end; its entry for `files` of a start_pod."""
        digest = hashlib.sha256(content).hexdigest()
        (self.files / digest).write_bytes(content)
        return {"path": path, "url": f"/files/{digest}", "sha256": digest, "size": len(content), "executable": executable}

    def pod_dir(self, body: dict[str, Any]) -> Path:
        return self.config.folder("pods") / f"{body['run']}-{body['pod']}"


@contextlib.contextmanager
def make_node(folder: Path) -> Iterator[TestNode]:
    with TestNode(folder) as node:
        try:
            yield node
        except BaseException:
            sys.stderr.write((folder / "service.log").read_text()[-6000:])
            raise
