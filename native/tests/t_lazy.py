#!/usr/bin/env python3
"""A pod that runs before its memory is there (restore --lazy): whatever it does to its memory meanwhile, whoever of those that bring it is killed, each page
is what it was. Damaged chunks are waited for and come from elsewhere, or the pod ends and says why. `t_lazy.py [ROUNDS]`.

COVERAGE: a process whose memory comes when it runs already | captured | forks, threads, moved, dropped and replaced mappings; killed filler, keeper, engine"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pod_lab import NATIVE, Lab, finish, is_alive, last, native, ok, read_state, scratch, until

USER = ("--uid", 1000, "--gid", 1000)
SLOW_US = "4000"


class Script:
    """Images of one program, and pods that come back from them."""

    def __init__(self, lab: Lab, program: Path) -> None:
        self.lab, self.program, self.pods = lab, program, 0
        self.store = lab.dir / f"{program.name}-store"
        self.image = lab.dir / f"{program.name}-image"

    def take(self, pod: Path, image: Path, *options: object) -> dict[str, Any]:
        return last(native("snapshot", "--pod", pod, "--image", image, "--store", self.store, *options))

    def first(self, *arguments: object) -> bool:
        out, pod = self.lab.dir / "first.out", self.lab.pod(f"{self.program.name}-first")
        native("run", "--pod", pod, *USER, "--stdout", out, "--stderr", out, "--", self.program, *arguments)
        return until(lambda: "ready" in out.read_text(), 30) and self.take(pod, self.image, "--then", "kill")["event"] == "done"

    def place(self) -> tuple[Path, Path]:
        self.pods += 1
        return self.lab.pod(f"{self.program.name}-{self.pods}"), self.lab.dir / f"{self.program.name}-{self.pods}.out"

    def words(self, pod: Path, out: Path, *options: object, image: Path | None = None) -> list[str]:
        where = ("--image", image or self.image, "--store", self.store, "--pod", pod, "--stdout", out, "--stderr", out)
        return [str(w) for w in ("restore", *where, *options)]

    def back(self, *options: object, image: Path | None = None) -> tuple[Path, Path, dict[str, Any]]:
        pod, out = self.place()
        return pod, out, last(native(*self.words(pod, out, *options, image=image)))

    def verify(self, pod: Path, out: Path, asked: bool = False) -> str:
        if not asked:
            native("kill", "--pod", pod, "--signal", 10)
        answer = last(native("wait", "--pod", pod, "--timeout", 50))
        return "" if answer.get("exit_status") == 0 and out.read_text().endswith("OK\n") else f"{answer} {out.read_text()[-400:]!r}"


def stat(pod: Path) -> dict[str, Any]:
    return last(native("stat", "--pod", pod))


def filler_of(keeper: int) -> int:
    for child in subprocess.run(["pgrep", "-P", str(keeper)], capture_output=True, text=True, check=False).stdout.split():
        try:
            if b"fill" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return int(child)
        except OSError:
            pass
    return 0


def storm(s: Script, rounds: int, chance: random.Random) -> None:
    """Random work on what is missing; the fillers are killed again and again, in some rounds the keepers, too."""
    why, lazy, fillers, keepers = "", 0, 0, 0
    for number in range(rounds):
        pod, out, answer = s.back("--lazy")
        lazy += answer.get("lazy_bytes", 0)
        native("kill", "--pod", pod, "--signal", 10)
        for _ in range(6):
            time.sleep(chance.random() * 0.05)
            state = stat(pod)
            victim = state["keeper_pid"] if number % 2 else filler_of(state["keeper_pid"])
            if state["filling"] and victim:
                os.kill(victim, signal.SIGKILL)
                until(lambda v=victim: not is_alive(str(v)), 5)
                fillers, keepers = fillers + (number % 2 == 0), keepers + number % 2
            native("adopt", "--pod", pod)
        why = why or s.verify(pod, out, asked=True)
    ok(not why and lazy > rounds << 20, f"{rounds} times every page is right, whatever was done to it before it came", why)
    ok(fillers > 0 and (keepers > 0 or rounds < 2), f"{fillers} fillers and {keepers} keepers were killed meanwhile")


def snapshot_at_once(s: Script) -> None:
    pod, _, _ = s.back("--lazy")
    filling = stat(pod)["filling"]
    image = s.lab.dir / "again"
    answer = s.take(pod, image, "--parent", s.image, "--then", "kill")
    ok(bool(filling) and answer["event"] == "done", "a snapshot of a pod that misses memory waits for it", (filling, answer))
    pod, out, _ = s.back(image=image)
    why = s.verify(pod, out)
    ok(not why, "and holds every page", why)


def is_in_its_group(init: int) -> bool:
    """Does podinit share all of its control groups with a process of the job?"""
    children = subprocess.run(["pgrep", "-P", str(init)], capture_output=True, text=True, check=False).stdout.split()
    return bool(children) and Path(f"/proc/{init}/cgroup").read_text() == Path(f"/proc/{children[0]}/cgroup").read_text()


def stands_and_goes(s: Script) -> None:
    """Frozen meanwhile; aborted before it ran; podinit killed."""
    pod, out, answer = s.back("--lazy")
    frozen = last(native("freeze", "--pod", pod))
    filled = until(lambda: not stat(pod)["filling"] and not filler_of(stat(pod)["keeper_pid"]), 30)
    state, apart = stat(pod)["state"], not is_in_its_group(answer["init_pid"])
    native("thaw", "--pod", pod)
    together = until(lambda: is_in_its_group(answer["init_pid"]), 10)
    ok(apart and together, "podinit is not put among the frozen, whom it would make count as running, but back when they go on", (apart, together))
    why = s.verify(pod, out)
    ok(frozen["event"] == "done" and state == "frozen" and filled and not why, "a frozen pod is filled, too", (frozen, state, filled, why))
    pod, out = s.place()
    answer = subprocess.run([str(NATIVE), *s.words(pod, out, "--lazy", "--barrier")], input=b"abort\n", capture_output=True, timeout=30, check=False)
    ok(b"ABORTED" in answer.stdout and not (pod / "state").exists(), "a restore that is aborted leaves nothing", answer.stdout)
    pod, out, answer = s.back("--lazy")
    os.kill(int(answer["init_pid"]), signal.SIGKILL)
    gone = until(lambda: stat(pod)["state"] == "ended" and not is_alive(str(answer["init_pid"])), 10)
    ok(gone and "OK" not in out.read_text(), "without podinit the pod ends at once, and nobody sees what is not there", stat(pod))


def ruin(store: Path) -> None:
    """Every pack's content, but not its index."""
    for pack in store.rglob("*.pack"):
        with pack.open("r+b") as f:
            size = f.seek(0, os.SEEK_END)
            for at in range(4096, size * 9 // 10, 16384):
                f.seek(at)
                f.write(b"damaged!" * 16)


def chunks_of(s: Script) -> bytes:
    return native("image-chunks", "--image", s.image).stdout


def heal(s: Script, good: Path) -> bool:
    missing = native("store-missing", "--store", s.store, stdin=chunks_of(s)).stdout
    sent = native("store-export", "--store", good, stdin=missing).stdout
    return native("store-import", "--store", s.store, stdin=sent).returncode == 0


def damaged(s: Script) -> None:
    good = s.lab.dir / "good-store"
    shutil.copytree(s.store, good)
    for healed in (True, False):
        os.environ["CLUSTEROS_PAGER_PATIENCE_MS"] = "60000" if healed else "1500"
        pod, out = s.place()
        act = subprocess.Popen([str(NATIVE), *s.words(pod, out, "--lazy", "--barrier")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert act.stdin and act.stdout
        ready = any('"ready"' in line for line in act.stdout)
        ruin(s.store)
        act.stdin.write("go\n")
        act.stdin.close()
        ready = ready and act.wait(30) == 0
        native("kill", "--pod", pod, "--signal", 10)
        if healed:
            lacks = until(lambda p=pod: (stat(p)["filling"] or {}).get("lacking"), 10)
            ok(ready and lacks and "OK" not in out.read_text(), "what is damaged is told, and the job stands", stat(pod))
            healed_all = until(lambda p=pod: heal(s, good) and stat(p)["state"] == "ended", 40)  # the filler finds more and more of it
            why = s.verify(pod, out, asked=True) if healed_all else f"it still waits: {stat(pod)}"
            ok(not why, "it goes on when the chunks have come from elsewhere", why)
            shutil.rmtree(s.store)
            shutil.copytree(good, s.store)
        else:
            ended = until(lambda p=pod: stat(p)["state"] == "ended", 15)
            said = ended and stat(pod)["exit_status"] is None and "could not be brought" in read_state(pod)["reason"]
            ok(ready and said, "if they never come, the pod ends, without a status of the command, and says why", stat(pod))
            ok("OK" not in out.read_text(), "and saw nothing else in their place")
    os.environ.pop("CLUSTEROS_PAGER_PATIENCE_MS")
    shutil.rmtree(s.store)
    shutil.copytree(good, s.store)


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    seed = int(time.time())
    print(f"# seed {seed}")
    os.environ["CLUSTEROS_FILL_DELAY_US"] = SLOW_US
    with scratch("lazy") as place, Lab() as lab:
        shutil.copy(NATIVE.parent / "victims" / "c_lazy", place)
        s = Script(lab, place / "c_lazy")
        ok(s.first(seed, 300), "a process with much memory is captured")
        storm(s, rounds, random.Random(seed))
        snapshot_at_once(s)
        stands_and_goes(s)
        damaged(s)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
