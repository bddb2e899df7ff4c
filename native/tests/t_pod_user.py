#!/usr/bin/env python3
"""Pods of an ordinary user: inside a user namespace that root has no part in. Started as root it becomes nobody first, so that it proves
the same wherever it runs. Where user namespaces are forbidden, doctor must say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

INSIDE = "CLUSTEROS_TEST_INSIDE"
NOBODY = 65534
HERE = Path(__file__).resolve().parent


def outside() -> int:
    """Copies of what is needed where nobody can read them; then this program again, in its own namespaces."""
    source = Path(os.environ.get("CLUSTEROS_NATIVE") or HERE.parent / "build" / "native")
    with tempfile.TemporaryDirectory(prefix="clusteros-user-test-") as scratch:
        top = Path(scratch)
        for file in (source, source.parent / "clusteros-rsh", Path(__file__).resolve(), HERE / "pod_lab.py"):
            shutil.copy(file, top)
        (top / "tmp").mkdir()
        for path in (top, top / "tmp"):
            path.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(top / "tmp", NOBODY, NOBODY)
        become = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"] if os.geteuid() == 0 else []
        spaces = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        env = {
            "PATH": os.environ.get("PATH", ""),
            "CLUSTEROS_NATIVE": str(top / "native"),
            "TMPDIR": str(top / "tmp"),
            "HOME": str(top / "tmp"),
        }
        python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
        if subprocess.run([*become, *spaces, "true"], env=env, capture_output=True).returncode != 0:
            return forbidden([*become, str(top / "native")], env)
        return subprocess.run([*become, *spaces, python, str(top / Path(__file__).name)], env={**env, INSIDE: "1"}).returncode


def forbidden(native: list[str], env: dict[str, str]) -> int:
    said = subprocess.run([*native, "doctor"], env=env, capture_output=True).stdout
    good = b"NO   namespaces" in said
    print(f"{'ok' if good else 'not ok'} 1 - user namespaces are forbidden here, and doctor says so\n1..1")
    return 0 if good else 1


def pods(lab: Lab) -> None:
    made = lab.run(
        "own",
        "sh",
        "-c",
        "id -u; id -un; echo data > /job/file; touch /etc/mine; sleep 1000",
        options=("--uid", 4242, "--gid", 4343, "--workdir", "/job"),
    )
    ok(made.get("event") == "done", "an ordinary user makes a pod whose user has any number", made)
    log = lab.pod("own") / "log" / "stdout"
    ok(until(lambda: log.read_text() == "4242\nu4242\n"), "the job has that number and a name", log.read_text())
    ok(until(lambda: (lab.pod("own") / "upper/job/file").exists()), "what it changes stands in POD/upper")
    inside = lab.exec(
        "own", "sh", "-c", "id -u; id -g; grep CapBnd /proc/self/status; cat /proc/1/comm; hostname; ls /usr/bin/env; ls -d /tmp/*"
    ).stdout.split()
    ok(
        inside[:2] == [b"4242", b"4343"] and int(inside[3], 16) == 0 and b"podinit" in inside and b"/usr/bin/env" in inside,
        "exec enters it, without capabilities",
        inside,
    )
    frozen = last(native("freeze", "--pod", lab.pod("own")))
    expected = frozen.get("event") == "done" or frozen.get("code") == "UNSUPPORTED"
    ok(expected, "freezing works, or says that it cannot here", frozen)
    ok(
        last(native("kill", "--pod", lab.pod("own"))).get("event") == "done" and leftovers(read_state(lab.pod("own"))) == [],
        "and it ends without a trace",
    )
    lab.run("short", "sh", "-c", "exit 5", options=("--uid", 4242, "--gid", 4242))
    ok(lab.wait("short").get("exit_status") == 5, "wait gives the exit status")


def network(lab: Lab) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    hub = lab.hub()
    for k in range(2):
        net = f"hub={hub},ip=10.77.0.{k + 1}/16,gw=10.77.255.254"
        options = ("--net", net, "--uid", 4242, "--gid", 4242, "--hostname", f"pod-{k}")
        made = lab.run(f"pod-{k}", "/opt/clusteros/bin/clusteros-rsh", "--serve", options=options)
        ok(made.get("event") == "done", f"pod-{k} on a bridge of the user's own", made)
    said = lab.exec("pod-0", "/opt/clusteros/bin/clusteros-rsh", "10.77.0.2", "hostname; cat; exit 3", stdin=b"hello")
    ok(said.returncode == 3 and said.stdout == b"pod-1\nhello", "one runs a command on the other", said)
    captured(lab, hub)


def captured(lab: Lab, hub: str) -> None:
    """The hub is of a namespace that the engine leaves when it enters the pod's."""
    said = last(native("snapshot", "--pod", lab.pod("pod-1"), "--image", lab.dir / "image", "--then", "kill"))
    ok(said.get("event") == "done", "a pod at that bridge is captured, and ended by it", said)
    ended = lab.wait("pod-1")
    ok(ended.get("event") == "done", "it has ended", ended)
    net = f"hub={hub},ip=10.77.0.2/16,gw=10.77.255.254"
    said = last(native("restore", "--image", lab.dir / "image", "--pod", lab.pod("pod-1-again"), "--net", net))
    ok(said.get("event") == "done", "it comes back", said)
    answer = lab.exec("pod-0", "/opt/clusteros/bin/clusteros-rsh", "10.77.0.2", "hostname")
    ok(answer.returncode == 0 and answer.stdout == b"pod-1\n", "and answers on its address as before", answer)


def main() -> int:
    if not os.environ.get(INSIDE):
        return outside()
    with Lab() as lab:
        pods(lab)
        network(lab)
    return finish()


if os.environ.get(INSIDE):
    from pod_lab import Lab, finish, last, leftovers, native, ok, read_state, until

if __name__ == "__main__":
    sys.exit(main())
