#!/usr/bin/env python3
"""Snapshots and restores in odd situations: Python programs, frozen pods, --then stop, aborts, refusals, damaged and foreign images, output and exit
status after a restore, a restore that is killed."""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path

from matrix_killed import restore_killed
from pod_lab import HERE, Lab, finish, last, native, ok, scratch, until
from t_core_cut import Act
from t_victims import Trial, whole_life


class Script(Trial):
    """A victim that is started by an interpreter."""

    def __init__(self, lab: Lab, name: str, *command: object) -> None:
        super().__init__(lab, Path("/") / name)
        self.command = command

    def start(self) -> str:
        answer = last(native("run", "--pod", self.pod(0), "--uid", 1000, "--gid", 1000, *self.files(), "--", *self.command))
        good = answer["event"] == "done" and until(lambda: "ready" in self.output(), 20)
        return "" if good else f"{answer} {self.output()}"

    def take(self, incarnation: int, generation: int, *options: object) -> dict[str, object]:
        answer: dict[str, object] = {}

        def done() -> bool:
            answer.clear()
            command = ("--pod", self.pod(incarnation), "--image", self.image(generation), "--store", self.store, *options)
            answer.update(last(native("snapshot", *command)))
            return answer.get("exit") != 75

        until(done, 20)
        return answer


def state(t: Trial, incarnation: int) -> str:
    return str(last(native("stat", "--pod", t.pod(incarnation))).get("state"))


def loop(lab: Lab, name: str, text: str = "") -> Script:
    body = text or "trap 'echo OK; exit 0' USR1; echo ready; while :; do sleep 0.02; done"
    return Script(lab, name, "/bin/sh", "-c", body)


def programs(lab: Lab, place: Path) -> None:
    shutil.copy(HERE / "core_busy.py", place)
    why = whole_life(Script(lab, "python", "/usr/bin/python3", place / "core_busy.py"))
    ok(not why, "a Python program with threads, asyncio, TCP and a child runs on and comes back twice", why)
    why = whole_life(loop(lab, "shell"))
    ok(not why, "a shell loop that starts a process every 20 ms runs on and comes back twice", why)


def frozen(lab: Lab) -> None:
    t = loop(lab, "frozen")
    t.start()
    native("freeze", "--pod", t.pod(0))
    answer = t.take(0, 1)
    ok(answer.get("event") == "done" and state(t, 0) == "frozen", "a frozen pod is captured and stays frozen", answer)
    native("thaw", "--pod", t.pod(0))
    why = t.verify(0) or t.restore(1, 1) or t.verify(1)
    ok(not why, "it runs on when it is thawed, and comes back running", why)
    s = loop(lab, "stopping")
    s.start()
    answer = s.take(0, 1, "--then", "stop")
    ok(answer.get("event") == "done" and state(s, 0) == "frozen", "--then stop leaves the pod frozen", (answer, state(s, 0)))
    native("thaw", "--pod", s.pod(0))
    why = s.verify(0)
    ok(not why, "and it can be thawed", why)


def exit_status(lab: Lab) -> None:
    t = loop(lab, "status", "trap 'echo OK; exit 37' USR1; echo ready; while :; do sleep 0.02; done")
    t.start()
    t.take(0, 1, "--then", "kill")
    t.restore(1, 1)
    native("kill", "--pod", t.pod(1), "--signal", 10)
    ok(
        last(native("wait", "--pod", t.pod(1), "--timeout", 20)).get("exit_status") == 37,
        "the exit status of COMMAND is told after a restore",
    )


def aborts(lab: Lab) -> None:
    t = loop(lab, "aborts")
    t.start()
    t.take(0, 1)
    for phase in ("prepared", "captured"):
        act = Act("snapshot", "--barrier", "--pod", t.pod(0), "--image", t.image(2), "--store", t.store)
        reached = act.until("prepared")
        if phase == "captured":
            act.say("stop")
            reached &= act.until("captured")
            answer = last(native("check", "--pod", t.pod(0)))
            ok(answer.get("obstacles") == [], "a check beside a snapshot does not take the engine for a debugger", answer)
        act.process.stdin.close()
        act.until("done")
        act.process.wait(20)
        ok(
            reached and act.last.get("code") == "ABORTED" and state(t, 0) == "running",
            f"end of file at `{phase}` is an abort, and the pod runs on",
            act.last,
        )
    act = Act("restore", "--barrier", "--image", t.image(1), "--store", t.store, "--pod", t.pod(1), *t.files())
    reached = act.until("ready")
    act.say("abort")
    act.until("done")
    act.process.wait(20)
    ok(reached and act.last.get("code") == "ABORTED", "a restore is aborted when it is ready", act.last)
    ok(native("stat", "--pod", t.pod(1)).returncode != 0, "nothing is left of it")
    why = t.verify(0) or t.restore(1, 1) or t.verify(1)
    ok(not why, "the same directory can be used for the next restore", why)


def refusals(lab: Lab) -> None:
    t = Script(
        lab,
        "refused",
        "/usr/bin/python3",
        "-c",
        "import ctypes, time\nl = ctypes.CDLL(None)\nassert l.syscall(323, 1 | 0o2000000) >= 0\nprint('ready', flush=True)\ntime.sleep(100)",
    )
    why = t.start()
    answer = last(native("check", "--pod", t.pod(0)))
    ok(not why and answer.get("checkpointable") is False and "userfault" in str(answer), "check names a userfaultfd", (why, answer))
    answer = t.take(0, 1)
    ok(
        answer.get("code") == "UNSUPPORTED" and "process 2" in str(answer) and not (t.image(1) / "manifest").exists(),
        "snapshot refuses it by name",
        answer,
    )
    ok(state(t, 0) == "running", "and nothing was touched")
    s = loop(lab, "sealed")
    s.start()
    s.take(0, 1)
    answer = last(native("restore", "--image", s.image(1), "--store", s.store, "--pod", s.pod(1), "--uid", 1001))
    ok(answer.get("code") == "DENIED", "an image of another user is refused", answer)
    manifest = s.image(1) / "manifest"
    whole = manifest.read_bytes()
    rng = random.Random(11)
    for _ in range(20):
        at = rng.randrange(len(whole))
        manifest.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        answer = last(native("restore", "--image", s.image(1), "--store", s.store, "--pod", s.pod(1)))
        if answer.get("code") != "BAD_IMAGE":
            break
    ok(answer.get("code") == "BAD_IMAGE", "a changed bit of the manifest is found (20 of them)", (answer, at))
    manifest.write_bytes(whole)
    why = s.restore(1, 1) or s.verify(1)
    ok(not why, "the unchanged one comes back", why)


def ends_meanwhile(lab: Lab) -> None:
    """A job that ends by itself about when it is captured: the image is whole, or the answer says that the pod has ended."""
    wrong = []
    for number in range(10):
        name = f"brief-{number}"
        lab.run(name, "/bin/sh", "-c", f"sleep {0.02 + 0.015 * number:.3f}")
        answer = last(native("snapshot", "--pod", lab.pod(name), "--image", lab.dir / f"{name}-image"))
        if answer.get("event") != "done" and "has ended" not in str(answer) and answer.get("code") != "ABORTED":
            wrong.append(answer)
    ok(not wrong, "a pod that ends while it is captured is said to have ended", wrong)


def restores_killed(lab: Lab, seed: int) -> None:
    t = loop(lab, "killed")
    t.start()
    t.take(0, 1, "--then", "kill")
    rng, why = random.Random(seed), ""
    for number in range(1, 31):
        why = why or restore_killed(t, rng, number)
    ok(not why, f"a restore whose processes are killed at random instants (seed {seed}) is whole or leaves nothing", why)


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())
    with scratch("more") as place, Lab() as lab:
        programs(lab, place)
        for part in (frozen, exit_status, aborts, refusals, ends_meanwhile):
            part(lab)
        restores_killed(lab, seed)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
