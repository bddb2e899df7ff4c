#!/usr/bin/env python3
"""Snapshots as acts of the keeper: lines to and fro, results that outlive everybody, and a job that runs on whoever dies. Run as root."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pod_lab import NATIVE, Lab, finish, last, native, ok, until

COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.01; done"


class Act:
    """`native snapshot --barrier` on a pod, spoken with line by line."""

    def __init__(self, lab: Lab, name: str, image: str, *options: object) -> None:
        command = [NATIVE, "snapshot", "--pod", lab.pod(name), "--image", lab.dir / image, "--barrier", *options]
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.seen: list[dict[str, Any]] = []
        self.rest = b""

    def event(self, *names: str, seconds: float = 20.0) -> dict[str, Any]:
        """Reads until one of the events comes; the last one read if none does."""
        assert self.process.stdout
        end = time.monotonic() + seconds
        while True:
            while b"\n" in self.rest:
                line, _, self.rest = self.rest.partition(b"\n")
                self.seen.append(json.loads(line))
                if self.seen[-1]["event"] in names:
                    return self.seen[-1]
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                return {"event": "nothing", "seen": self.seen}
            block = os.read(self.process.stdout.fileno(), 65536)
            if not block:
                return {"event": "nothing", "seen": self.seen}
            self.rest += block

    def say(self, word: str) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(word.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            print(f"# '{word}' came too late: {self.seen}", flush=True)

    def end(self) -> int:
        if self.process.stdin:
            self.process.stdin.close()
        return self.process.wait(30)


def moves(lab: Lab, name: str) -> bool:
    path = Path(f"/proc/{lab.stat(name)['init_pid']}/root/tmp/count")

    def count() -> str:
        try:
            return path.read_text().strip()
        except OSError:
            return ""

    before = count()
    return until(lambda: count() not in ("", before), 5.0)


def results(lab: Lab, name: str) -> list[dict[str, Any]]:
    return list(last(native("result", "--pod", lab.pod(name))).get("results", []))


def outcome(lab: Lab, name: str, image: str) -> dict[str, Any]:
    for kept in results(lab, name):
        if str(lab.dir / image) in kept["args"]:
            return dict(kept["result"])
    return {}


def engine_pid(lab: Lab, name: str) -> int:
    return int((lab.pod(name) / "act").read_text().split()[0])


def plain(lab: Lab) -> None:
    lab.run("p", "sh", "-c", COUNTER)
    act = Act(lab, "p", "one")
    ok(act.event("prepared")["event"] == "prepared" and moves(lab, "p"), "prepared: the pod still runs", act.seen)
    busy = last(native("snapshot", "--pod", lab.pod("p"), "--image", lab.dir / "two"))
    ok(busy.get("code") == "BUSY", "a second act at the same time is refused as busy", busy)
    ok(last(native("freeze", "--pod", lab.pod("p"))).get("code") == "BUSY", "so is freezing meanwhile")
    act.say("stop")
    ok(act.event("captured")["event"] == "captured", "captured after stop", act.seen)
    act.say("go")
    done = act.event("done", "failed")
    ok(done["event"] == "done" and act.end() == 0 and moves(lab, "p"), "done after go, and the pod runs on", act.seen)
    kept = results(lab, "p")
    ok(len(kept) == 1 and kept[0]["result"]["digest"] == done.get("digest"), "the keeper kept the result", kept)
    native("result", "--pod", lab.pod("p"), "--ack", kept[0]["id"])
    ok(results(lab, "p") == [], "until it is acknowledged")
    ok(last(native("result", "--pod", lab.pod("p"), "--ack", "../state")).get("code") == "USAGE", "a result's name is checked")


def aborts(lab: Lab) -> None:
    for step in ("prepared", "captured"):
        for how in ("abort", "end of file", "client killed"):
            image = f"abort-{step}-{how.replace(' ', '-')}"
            act = Act(lab, "p", image)
            act.event("prepared")
            if step == "captured":
                act.say("stop")
                act.event("captured")
            if how == "abort":
                act.say("abort")
            elif how == "client killed":
                act.process.kill()
            act.end()
            ok(until(lambda image=image: outcome(lab, "p", image)) and moves(lab, "p"), f"{how} at {step}: the pod runs on", act.seen)
            ok(
                outcome(lab, "p", image).get("code") == "ABORTED",
                f"{how} at {step}: the kept result says ABORTED",
                outcome(lab, "p", image),
            )


def client_dies_after_go(lab: Lab) -> None:
    act = Act(lab, "p", "after-go")
    act.event("prepared")
    act.say("stop")
    act.event("captured")
    act.say("go")
    moves(lab, "p")  # the engine has heard it
    act.process.kill()
    act.end()
    until(lambda: outcome(lab, "p", "after-go"))
    ok(
        outcome(lab, "p", "after-go").get("event") == "done" and moves(lab, "p"),
        "a client killed after go loses nothing",
        outcome(lab, "p", "after-go"),
    )
    ok(native("verify", lab.dir / "after-go").returncode == 0, "and the image is whole")


def engine_dies(lab: Lab) -> None:
    for step in ("prepared", "captured"):
        act = Act(lab, "p", f"engine-{step}")
        act.event("prepared")
        if step == "captured":
            act.say("stop")
            act.event("captured")
        os.kill(engine_pid(lab, "p"), signal.SIGKILL)
        failed = act.event("done", "failed")
        ok(
            failed["event"] == "failed" and act.end() == 70 and moves(lab, "p"),
            f"the engine killed at {step}: told as failed, and the pod runs on",
            act.seen,
        )
        ok(outcome(lab, "p", f"engine-{step}").get("event") == "failed", "and kept as failed")


def keeper_dies(lab: Lab) -> None:
    for step in ("prepared", "captured"):
        act = Act(lab, "p", f"keeper-{step}")
        act.event("prepared")
        if step == "captured":
            act.say("stop")
            act.event("captured")
        os.kill(lab.stat("p")["keeper_pid"], signal.SIGKILL)
        failed = act.event("done", "failed")
        ok(failed["event"] == "failed" and act.end() != 0, f"the keeper killed at {step}: the client hears of it", act.seen)
        native("adopt", "--pod", lab.pod("p"))
        ok(moves(lab, "p") and lab.stat("p")["keeper_alive"], "a new keeper, and the pod runs on")
        ok(
            until(lambda step=step: outcome(lab, "p", f"keeper-{step}").get("event") == "failed"),
            "the act is kept as failed",
            results(lab, "p"),
        )
        ok(not (lab.pod("p") / "act").exists() and not (lab.pod("p") / "journal").exists(), "no act and no journal are left")


def lease_ends(lab: Lab) -> None:
    until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 2_000_000_000
    native("lease", "--pod", lab.pod("p"), "--epoch", 1, "--until-boottime-ns", until_ns)
    act = Act(lab, "p", "leased")
    act.event("prepared")
    act.say("stop")
    act.event("captured")
    failed = act.event("done", "failed", seconds=5)
    ok(failed["event"] == "failed" and act.end() == 79, "a lease that ends during an act ends the act", act.seen)
    ok(until(lambda: lab.stat("p")["state"] == "frozen", 3), "and the pod stands frozen")
    act = Act(lab, "p", "while-frozen")
    act.event("prepared")
    act.say("stop")
    act.event("captured")
    act.say("go")
    done = act.event("done", "failed")
    ok(
        done["event"] == "done" and act.end() == 0 and lab.stat("p")["state"] == "frozen",
        "a frozen pod can be captured, and stands frozen afterwards",
        act.seen,
    )
    native("lease", "--pod", lab.pod("p"), "--epoch", 1, "--until-boottime-ns", until_ns + 60_000_000_000)
    ok(moves(lab, "p"), "a new lease lets it run on")


def then_what(lab: Lab) -> None:
    done = last(native("snapshot", "--pod", lab.pod("p"), "--image", lab.dir / "stop", "--then", "stop"))
    ok(
        done["event"] == "done" and lab.stat("p")["state"] == "frozen" and lab.stat("p")["suspended"],
        "--then stop leaves the pod suspended",
        done,
    )
    native("thaw", "--pod", lab.pod("p"))
    ok(moves(lab, "p"), "thaw lets it run on")
    done = last(native("snapshot", "--pod", lab.pod("p"), "--image", lab.dir / "kill", "--then", "kill"))
    ended = lab.wait("p")
    ok(
        done["event"] == "done" and ended.get("reason") == "ended after its snapshot",
        "--then kill ends the pod after its image is safe",
        (done, ended),
    )
    ok(outcome(lab, "p", "kill").get("event") == "done", "the result outlives the pod")


def keeper_dies_before_the_end(lab: Lab) -> None:
    """`--then kill`: the engine has left the pod frozen and cut, and the keeper dies before it has ended the pod."""
    for kept in (False, True):
        name = f"last-{kept}"
        lab.run(name, "sh", "-c", COUNTER)
        moves(lab, name)
        os.kill(lab.stat(name)["keeper_pid"], signal.SIGKILL)
        args = ["--pod", str(lab.pod(name)), "--image", str(lab.dir / f"image-{name}"), "--then", "kill"]
        done = last(native("snapshot", "--direct", *args))
        quoted = ",".join(json.dumps(word) for word in args)
        (lab.pod(name) / "act").write_text(f"1 1 snapshot-1 snapshot\n{quoted}\n")
        line = {"id": "snapshot-1", "verb": "snapshot", "args": args, "exit": 0, "ended_at_ms": 1, "result": done}
        if kept:
            (lab.pod(name) / "results" / "snapshot-1").write_text(json.dumps(line, separators=(",", ":")) + "\n")
        ok(done["event"] == "done" and not moves(lab, name), "--then kill leaves the pod standing until its keeper ends it", done)
        native("adopt", "--pod", lab.pod(name))
        if kept:
            ended = lab.wait(name)
            ok(ended.get("reason") == "ended after its snapshot", "its result is kept: whoever adopts it ends it", ended)
        else:
            ok(moves(lab, name), "its result is lost: whoever adopts it lets it run on", lab.stat(name))
            ok(results(lab, name)[0]["result"]["code"] == "ABORTED", "and the act is kept as failed", results(lab, name))
        left = [lab.pod(name) / word for word in ("act", "journal")]
        ok(until(lambda left=left: not any(path.exists() for path in left), 3), "no act and no journal are left", left)


WAITING = """import socket, sys, time
server = socket.create_server(("127.0.0.1", 0))
for count in range(1000000):
    client = socket.create_connection(server.getsockname())
    open("/tmp/count", "w").write(str(count))
    time.sleep(float(sys.argv[1]))
    server.accept()[0].close()
    client.close()
    time.sleep(0.1)
"""


def busy_for_a_moment(lab: Lab) -> None:
    """A connection that is not accepted yet: what passes by itself is waited for, what lasts is told, and the pod runs on."""
    lab.run("moment", "/usr/bin/python3", "-c", WAITING, "0.4")
    moves(lab, "moment")
    good = [last(native("snapshot", "--pod", lab.pod("moment"), "--image", lab.dir / f"moment-{n}")) for n in range(3)]
    ok(all(done["event"] == "done" for done in good), "a busy state that passes within a second is waited for", good)
    ok(moves(lab, "moment"), "and the pod runs on")
    lab.run("lasting", "/usr/bin/python3", "-c", WAITING, "1000")
    until(lambda: Path(f"/proc/{lab.stat('lasting')['init_pid']}/root/tmp/count").exists())
    began = time.monotonic()
    failed = native("snapshot", "--pod", lab.pod("lasting"), "--image", lab.dir / "lasting")
    took_s = time.monotonic() - began
    ok(
        failed.returncode == 75 and last(failed).get("code") == "BUSY" and 0.9 < took_s < 15,
        "one that lasts fails as busy, in bounded time",
        (took_s, last(failed)),
    )
    ok(lab.exec("lasting", "true").returncode == 0 and not (lab.pod("lasting") / "journal").exists(), "and that pod runs on too")


def main() -> int:
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        return 1
    with Lab() as lab:
        for part in (
            plain,
            aborts,
            client_dies_after_go,
            engine_dies,
            keeper_dies,
            lease_ends,
            then_what,
            keeper_dies_before_the_end,
            busy_for_a_moment,
        ):
            part(lab)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
