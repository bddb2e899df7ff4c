#!/usr/bin/env python3
"""`native run` and its keeper are killed at random instants: either the pod runs whole or nothing of it is left; never in between.
TEST_SEED repeats a run, TEST_ROUNDS sets its length."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from pod_lab import NATIVE, Lab, finish, last, leftovers, native, ok, read_state, until

GROUPS = Path("/sys/fs/cgroup")
ROUNDS = int(os.environ.get("TEST_ROUNDS", "40"))


def keeper_of(pod: Path) -> int:
    try:
        return int(read_state(pod).get("keeper_pid", "0"))
    except (OSError, ValueError):
        return 0


def is_keeper(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() in ("keeper", "native")
    except OSError:
        return False


def one(lab: Lab, number: int, chance: random.Random, hub: str) -> tuple[str, str]:
    """What was killed, and what is wrong afterwards ("" if all is well)."""
    pod, delay_s, victim = lab.pod(f"k{number}"), chance.random() * 0.02, chance.choice(("caller", "keeper", "both"))
    command = [NATIVE, "run", "--pod", pod, "--net", f"hub={hub},ip=10.77.1.{number + 1}/16", "--", "sleep", "1000"]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    time.sleep(delay_s)
    keeper = keeper_of(pod)
    if victim in ("keeper", "both") and keeper and is_keeper(keeper):
        os.kill(keeper, signal.SIGKILL)
    if victim in ("caller", "both"):
        process.kill()
    process.communicate(timeout=30)
    return f"{victim} after {delay_s * 1000:.1f} ms", judge(lab, number, pod)


def judge(lab: Lab, number: int, pod: Path) -> str:
    if not (pod / "state").exists() and not until(lambda: (pod / "state").exists(), 0.3):
        return ""
    until(
        lambda: (
            not (pod / "state").exists()
            or lab.stat(f"k{number}").get("state") != "making"
            or not lab.stat(f"k{number}").get("keeper_alive")
        ),
        5,
    )
    if not (pod / "state").exists():
        return ""
    state = read_state(pod)
    native("adopt", "--pod", pod)
    until(lambda: lab.stat(f"k{number}").get("state") != "making", 5)
    found = lab.stat(f"k{number}")
    if found.get("state") == "running" and lab.exec(f"k{number}", "true").returncode != 0:
        return f"it should run: {found}"
    if found.get("state") not in ("running", "ended"):
        return f"neither running nor ended: {found}"
    done = last(native("kill", "--pod", pod))
    return "" if done.get("event") == "done" and not leftovers(state) else f"left: {leftovers(state)} {done}"


def ports(hub: str) -> list[str]:
    out = subprocess.run(
        ["ip", "netns", "exec", Path(hub).name, "ip", "-o", "link", "show", "type", "veth"], capture_output=True, check=True
    )
    return out.stdout.decode().splitlines()


def main() -> int:
    seed = int(os.environ.get("TEST_SEED") or time.time_ns() % (1 << 32))
    print(f"# TEST_SEED={seed}")
    chance = random.Random(seed)
    with Lab() as lab:
        group = os.environ["CLUSTEROS_CGROUP"] = f"clusteros-killed-{os.getpid()}"
        hub, wrong, seen = lab.hub(), [], 0
        for number in range(ROUNDS):
            what, problem = one(lab, number, chance, hub)
            seen += (lab.pod(f"k{number}") / "state").exists()
            if problem:
                wrong.append(f"{what}: {problem}")
        ok(not wrong, f"run killed {ROUNDS} times: whole or nothing", wrong)
        ok(until(lambda: ports(hub) == [], 5), "and no interface is left at the hub", ports(hub))
        groups = [path for top in GROUPS.glob(f"*/{group}") for path in top.iterdir() if path.is_dir()]
        ok(not groups, "nor any control group below the one that CLUSTEROS_CGROUP names", groups)
        for top in GROUPS.glob(f"*/{group}"):
            top.rmdir()
        ok(seen > 0, f"{seen} of the pods had got far enough to leave a state")
    return finish()


if __name__ == "__main__":
    sys.exit(main())
