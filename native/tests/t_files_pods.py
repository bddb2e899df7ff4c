#!/usr/bin/env python3
"""A parallel job over three pods, cut as one: unmodified mpirun with ranks on every pod, messages in flight all the time. It runs on after a
coordinated snapshot; all pods are ended and come back from their images behind a barrier; every message is checked by the program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pod_lab import HERE, NATIVE, TIMEOUT_S, Lab, finish, last, native, ok, scratch, until

PODS = 3
LAUNCH = {
    "openmpi": ("mpirun.openmpi", "--host", ",".join(f"pod-{i}:2" for i in range(PODS)), "--oversubscribe"),
    "mpich": ("mpiexec.mpich", "-hosts", ",".join(f"pod-{i}" for i in range(PODS)), "-n", str(2 * PODS)),
}
RSH = "/opt/clusteros/bin/clusteros-rsh"
ENVIRONMENT = {
    "HOME": "/tmp", "PATH": "/opt/clusteros/bin/shims:/opt/clusteros/bin:/usr/bin:/bin", "OMPI_MCA_plm_rsh_agent": RSH,
    "HYDRA_LAUNCHER": "rsh", "HYDRA_LAUNCHER_EXEC": RSH, "CLUSTEROS_RSH_WAIT_S": "5",
}


class Act:
    """One `native` act that waits at its barriers; lines in, events out."""

    def __init__(self, *args: object) -> None:
        self.process = subprocess.Popen([str(NATIVE), *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] in (event, "failed"):
                return self.lines[-1]
        return {"event": "nothing", "lines": self.lines}

    def say(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()


class Job:
    """The pods of one job in one incarnation after another."""

    def __init__(self, lab: Lab, kind: str, program: Path) -> None:
        self.lab, self.kind, self.program = lab, kind, program
        self.out = lab.dir / f"{kind}.out"
        self.incarnation = 0
        self.hosts = lab.dir / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n" + "".join(f"10.77.0.{i + 1} pod-{i}\n" for i in range(PODS)))
        self.hub = lab.hub()

    def pod(self, i: int) -> Path:
        return self.lab.pod(f"{self.kind}-{self.incarnation}-{i}")

    def net(self, i: int) -> str:
        return f"hub={self.hub},bridge=br0,ip=10.77.0.{i + 1}/16,gw=10.77.255.254,mac=02:00:0a:4d:00:0{i + 1}"

    def options(self, i: int) -> tuple[object, ...]:
        return ("--pod", self.pod(i), "--net", self.net(i), "--hostname", f"pod-{i}", "--hosts", self.hosts,
                "--stdout", f"{self.out}.{i}", "--stderr", f"{self.out}.{i}")

    def start(self) -> bool:
        environment = self.lab.dir / f"{self.kind}.env"
        environment.write_bytes(b"".join(f"{k}={v}".encode() + b"\0" for k, v in ENVIRONMENT.items()))
        for i in reversed(range(PODS)):
            command = (*LAUNCH[self.kind], self.program, "/tmp/stop") if i == 0 else ()
            answer = last(native("run", *self.options(i), "--uid", 1000, "--gid", 1000, "--env", environment, "--",
                                 RSH, "--serve", *(("--", *command) if command else ())))
            if answer["event"] != "done":
                return ok(False, f"{self.kind}: pod {i} starts", answer)
        return ok(until(lambda: "ready" in self.output(), 30), f"{self.kind}: {2 * PODS} ranks run on {PODS} pods", self.output())

    def image(self, i: int, generation: int) -> Path:
        return self.lab.dir / f"{self.kind}-image-{generation}-{i}"

    def all(self, acts: list[Act], event: str, word: str | None) -> list[dict[str, Any]]:
        answers = [act.until(event) for act in acts]
        if word:
            for act in acts:
                act.say(word if all(a["event"] == event for a in answers) else "abort")
        return answers

    def snapshot(self, generation: int, then: str) -> bool:
        """Tried again while something that passes by itself stands in the way (exit 75)."""
        for _ in range(10):
            acts = [Act("snapshot", "--pod", self.pod(i), "--image", self.image(i, generation), "--store", self.lab.dir / "store", "--barrier",
                        "--then", then) for i in range(PODS)]
            self.all(acts, "prepared", "stop")
            self.all(acts, "captured", "go")
            answers = self.all(acts, "done", None)
            if not any(a.get("exit") == 75 for a in answers):
                break
            time.sleep(0.2)
        pauses = [a.get("pause_ms") for a in answers]
        return ok(all(a["event"] == "done" for a in answers), f"{self.kind}: generation {generation} (pauses {pauses} ms)", answers)

    def restore(self, generation: int) -> bool:
        self.incarnation += 1
        for i in range(PODS):
            Path(f"{self.out}.{i}").write_text("")  # what an earlier incarnation said proves nothing of this one
        started = time.monotonic()
        acts = [Act("restore", "--image", self.image(i, generation), "--store", self.lab.dir / "store", *self.options(i), "--barrier")
                for i in range(PODS)]
        self.all(acts, "ready", "go")
        answers = self.all(acts, "done", None)
        took = round(time.monotonic() - started, 2)
        return ok(all(a["event"] == "done" for a in answers), f"{self.kind}: back from generation {generation} ({took} s)", answers)

    def kill(self) -> None:
        for i in range(PODS):
            native("kill", "--pod", self.pod(i))

    def finish(self, sentence: str) -> bool:
        """Ask the program to end: it goes one more round, so whatever was lost shows."""
        native("exec", "--pod", self.pod(0), "--", "/bin/touch", "/tmp/stop")
        started = time.monotonic()
        until(lambda: "OK" in self.output() or "FAIL" in self.output(), TIMEOUT_S - 10)
        took = round(time.monotonic() - started, 2)
        said = self.output()
        # MPICH 4.0 over UCX waits for ever in MPI_Finalize in about every third run over TCP, with no snapshot at all: its end says nothing.
        answer = {} if self.kind == "mpich" else last(native("wait", "--pod", self.pod(0), "--timeout", 30))
        ended = self.kind == "mpich" or answer.get("exit_status") == 0
        return ok(ended and said.endswith("OK\n") and "FAIL" not in said, f"{self.kind}: {sentence} ({took} s)", (answer, said))

    def output(self) -> str:
        log = Path(f"{self.out}.0")
        return log.read_text() if log.exists() else ""


def whole_life(lab: Lab, kind: str, program: Path) -> None:
    job = Job(lab, kind, program)
    if not job.start():
        return
    time.sleep(1)
    if job.snapshot(1, "run") and job.snapshot(2, "kill") and job.restore(2):
        time.sleep(1)
        if job.snapshot(3, "run"):
            job.finish("ends right after one restore and three generations")
    job.kill()
    if job.restore(1):
        job.finish("ends right after it was rolled back to the first generation")
    job.kill()


SERVER = """
import socket
l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(("198.51.100.1", 5000)); l.listen(5)
print("listens", flush=True)
while True:
    c, _ = l.accept()
    while c.recv(100): c.sendall(b"answer")
"""
CLIENT = """
import signal, socket, sys, threading
def ask(*_): raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, ask)
s = socket.create_connection(("198.51.100.1", 5000), 10)
s.sendall(b"x"); s.recv(100); s.settimeout(None); print("ready", flush=True)
try:
    s.recv(100)
    print("FAIL: data", flush=True)
except KeyboardInterrupt:
    s.sendall(b"x"); print(s.recv(100).decode(), flush=True)
except ConnectionError as error:
    print(type(error).__name__, flush=True)
    s = socket.create_connection(("198.51.100.1", 5000), 10); s.sendall(b"x"); print(s.recv(100).decode(), flush=True)
"""


def leaving(lab: Lab) -> None:
    """A connection to a server that is not of the job."""
    hub = lab.hub()
    name = Path(hub).name
    subprocess.run(["ip", "-n", name, "addr", "add", "198.51.100.1/32", "dev", "lo"], check=True)
    server = subprocess.Popen(["ip", "netns", "exec", name, "python3", "-c", SERVER], stdout=subprocess.PIPE)
    out, image, net = lab.dir / "leaving.out", lab.dir / "leaving-image", f"hub={hub},bridge=br0,ip=10.77.0.1/16,gw=10.77.255.254"
    files = ("--stdout", out, "--stderr", out, "--net", net)
    try:
        assert server.stdout and server.stdout.readline() == b"listens\n"
        last(native("run", "--pod", lab.pod("leaving"), *files, "--", "/usr/bin/python3", "-c", CLIENT))
        ok(until(lambda: "ready" in out.read_text()), "a job talks to a server outside", out.read_text())
        answer = last(native("snapshot", "--pod", lab.pod("leaving"), "--image", image, "--store", lab.dir / "store"))
        text = native("inspect", image).stdout.decode()
        ok(answer["event"] == "done" and "leaves the job" in text, "the image says that the connection leaves the job", (answer, text[-500:]))
        native("kill", "--pod", lab.pod("leaving"), "--signal", 10)
        ok(last(native("wait", "--pod", lab.pod("leaving"), "--timeout", 10)).get("exit_status") == 0 and "answer" in out.read_text(),
           "it goes on after the snapshot", out.read_text())
        out.write_text("")
        last(native("restore", "--image", image, "--store", lab.dir / "store", "--pod", lab.pod("leaving-2"), *files))
        last(native("wait", "--pod", lab.pod("leaving-2"), "--timeout", 10))
        ok(out.read_text().splitlines() == ["ConnectionAbortedError", "answer"], "a restore resets it, and the job can connect anew", out.read_text())
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        return 1
    wanted = [kind for kind in sys.argv[1:] or list(LAUNCH) if kind in LAUNCH]
    with scratch("pods") as place, Lab() as lab:
        leaving(lab)
        for kind in wanted:
            compiler = f"mpicc.{kind}"
            if not ok(shutil.which(compiler) is not None, f"{kind} is installed (apt: libopenmpi-dev, libmpich-dev)"):
                continue
            program = place / f"ring.{kind}"
            subprocess.run([compiler, "-O2", "-w", "-o", program, HERE / "core_mpi.c"], check=True)
            whole_life(lab, kind, program)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
