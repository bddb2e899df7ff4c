#!/usr/bin/env python3
"""Pods through the verbs of the engine: life, identity, limits, freezing, leases, keepers that die. Run as root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pod_lab import Lab, finish, last, leftovers, native, ok, read_state, until

COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.01; done"


def count_of(lab: Lab, name: str) -> int:
    """The counter as it stands, read from outside."""
    try:
        return int((Path(f"/proc/{lab.stat(name)['init_pid']}/root/tmp/count")).read_text() or 0)
    except (OSError, ValueError):
        return 0


def moves(lab: Lab, name: str) -> bool:
    before = count_of(lab, name)
    return until(lambda: count_of(lab, name) > before, 2.0)


def stands(lab: Lab, name: str) -> bool:
    before = count_of(lab, name)
    time.sleep(0.2)
    return count_of(lab, name) == before


def bad_input(lab: Lab) -> None:
    for arguments, code in (
        (("--pod", lab.pod("x")), "USAGE"),
        (("--pod", lab.pod("x"), "--net", "hub=relative", "--", "true"), "USAGE"),
        (("--pod", lab.pod("x"), "--net", "hub=/x,ip=10.0.0.1", "--", "true"), "USAGE"),
        (("--pod", lab.pod("x"), "--net", "hub=/x,ip=10.0.0.1/16,mac=zz", "--", "true"), "USAGE"),
        (("--pod", lab.pod("x"), "--cpus", "3-1", "--", "true"), "USAGE"),
        (("--pod", lab.pod("x"), "--hostname", "a b", "--", "true"), "USAGE"),
        (("--pod", lab.pod("x"), "--uid", "99999999999", "--", "true"), "USAGE"),
        (("--pod", lab.pod("x"), "--mem", "17", "--", "true"), "USAGE"),
        (("--pod", lab.pod("x"), "--net", "hub=/does/not/exist,ip=10.0.0.1/16", "--", "true"), "OS"),
        (("--pod", lab.pod("x"), "--", "/no/such/command"), "NO_COMMAND"),
        (("--pod", lab.pod("x"), "--io-uring", "perhaps", "--", "true"), "USAGE"),
    ):
        result = native("run", *arguments)
        ok(last(result).get("code") == code and result.returncode >= 64, f"run refuses {arguments[2:]} with {code}", last(result))
    ok(not (lab.pod("x") / "state").exists(), "a refused run leaves no pod behind")
    for verb in ("stat", "wait", "kill", "freeze", "thaw", "exec", "lease"):
        extra = {"exec": ("--", "true"), "lease": ("--epoch", 1, "--until-boottime-ns", 1)}.get(verb, ())
        ok(last(native(verb, "--pod", lab.pod("nowhere"), *extra)).get("code") == "NO_INPUT", f"{verb} of a pod that is not there says so")


def life(lab: Lab) -> None:
    (lab.dir / "hello.env").write_bytes(b"PATH=/usr/bin:/bin\0WORD=two words\0")
    options = (
        "--hostname",
        "pod-7",
        "--uid",
        4242,
        "--gid",
        4343,
        "--env",
        lab.dir / "hello.env",
        "--workdir",
        "/job/work",
        "--mem",
        "256M",
    )
    began = lab.run("life", "sh", "-c", 'echo "$WORD"; pwd; id -un; cat; echo problem >&2; touch here; exit 7', options=options)
    ok(began.get("event") == "done" and began.get("command_pid") == 2, "run makes a pod and says so", began)
    ended = lab.wait("life")
    ok(ended.get("exit_status") == 7, "wait gives the exit status of the command", ended)
    log = lab.pod("life") / "log"
    ok(
        (log / "stdout").read_text() == "two words\n/job/work\nu4242\n",
        "the output is in the log, the input was empty",
        (log / "stdout").read_text(),
    )
    ok((log / "stderr").read_text() == "problem\n", "the error output is in its own log")
    ok((lab.pod("life") / "upper/job/work/here").stat().st_uid == 4242, "the working directory can be reached from outside after the end")
    ok(leftovers(read_state(lab.pod("life"))) == [], "nothing of an ended pod is left but its directory")
    ok(native("wait", "--pod", lab.pod("life"), "--exit-status").returncode == 7, "wait --exit-status ends like the command")
    ok(lab.run("life", "true").get("code") == "CONFLICT", "a directory that holds a pod is not used again")
    ok(last(native("kill", "--pod", lab.pod("life"))).get("event") == "done", "kill of an ended pod is no error")
    ok(last(native("freeze", "--pod", lab.pod("life"))).get("code") == "CONFLICT", "freeze of an ended pod is refused")
    lab.run("signalled", "sh", "-c", "kill -9 $$")
    ok(lab.wait("signalled").get("signal") == 9, "a command that dies by a signal is told as such")


def the_end_of_all(lab: Lab) -> None:
    script = "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & (setsid sleep 1000 &) ; sleep 0.3; exit 3"
    lab.run("stubborn", "sh", "-c", script)
    began = time.monotonic()
    ended = lab.wait("stubborn")
    ok(ended.get("exit_status") == 3 and 1.0 < time.monotonic() - began < 8, "what ignores SIGTERM is killed after two seconds", ended)
    ok(leftovers(read_state(lab.pod("stubborn"))) == [], "and nothing is left")


def are_in_their_groups(state: dict[str, str]) -> bool:
    """From the first instruction on: whoever is born outside stays there."""
    init = state["init_pid"]
    members = {init, *subprocess.run(["pgrep", "-P", init], capture_output=True, text=True, check=True).stdout.split()}
    groups = [Path(place) for key, place in state.items() if key.startswith("cgroup.") and place]
    return len(members) > 1 and bool(groups) and all(members <= set((g / "cgroup.procs").read_text().split()) for g in groups)


def identity(lab: Lab) -> None:
    lab.run("who", "sleep", "1000", options=("--uid", 4242, "--gid", 4242, "--hostname", "pod-0"))
    script = (
        "hostname; cat /proc/sys/kernel/random/boot_id; cat /etc/machine-id; grep CapBnd /proc/self/status; grep CapEff /proc/self/status; "
        "cat /proc/1/comm; ls /sys/class/net; cat /proc/self/cgroup | grep -v ':/$'; echo x > /proc/sys/kernel/hostname || echo refused; "
        "ls -A /tmp /dev/shm; touch /etc/passwd || echo not root"
    )
    out = lab.exec("who", "sh", "-c", script).stdout.decode().splitlines()
    state = read_state(lab.pod("who"))
    ok(
        out[0] == "pod-0" and out[1] == state["boot_id"] and out[2] == state["machine_id"],
        "host name, boot id and machine id are the pod's own",
        out,
    )
    ok(all(int(line.split()[1], 16) == 0 for line in out[3:5]), "a process of the job has no capability and can get none", out)
    ok(
        out[5] == "podinit" and out[6] == "lo" and out[7] == "refused",
        "pid 1 is podinit, the network is loopback alone, /proc/sys is closed",
        out,
    )
    ok(
        out[-1] == "not root" and out[8:] == ["/dev/shm:", "", "/tmp:", "not root"][-len(out[8:]) :],
        "/tmp and /dev/shm are private and empty",
        out[8:],
    )
    uring = lab.exec(
        "who", "python3", "-c", "import ctypes,os;l=ctypes.CDLL(None,use_errno=True);print(l.syscall(425,1,0),ctypes.get_errno(),l.syscall(206,1,0),ctypes.get_errno())"
    )
    ok(uring.stdout.split() == [b"-1", b"38"] * 2, "io_uring and AIO are answered with ENOSYS", uring)
    ok(are_in_their_groups(state), "podinit and the job are in all of the pod's control groups", state)
    host_mounts = Path("/proc/self/mountinfo").read_text()
    ok(str(lab.dir) not in host_mounts, "no mount of the pod is seen outside")
    two = lab.stat("who")["command_pid"]
    inner = last(native("pid", "--pod", lab.pod("who"), two, "--inside"))
    ok(last(native("pid", "--pod", lab.pod("who"), inner["pid"])).get("inside") == two, "pid translates there and back", inner)
    ok(
        lab.exec("who", "sh", "-c", "exit 9").returncode == 9 and lab.exec("who", "/no/such").returncode == 72,
        "exec gives the command's exit status",
    )
    ok(lab.exec("who", "cat", stdin=b"over the pipe").stdout == b"over the pipe", "exec passes standard input and output")
    native("kill", "--pod", lab.pod("who"), "--signal", 15)
    ok(lab.wait("who").get("signal") == 15, "kill --signal reaches the command")


def freezing(lab: Lab) -> None:
    lab.run("cold", "sh", "-c", COUNTER)
    ok(moves(lab, "cold"), "the counter runs")
    ok(
        last(native("freeze", "--pod", lab.pod("cold"))).get("event") == "done" and lab.stat("cold").get("state") == "frozen",
        "freeze says that the pod stands",
    )
    ok(stands(lab, "cold"), "a frozen pod does nothing")
    ok(last(native("freeze", "--pod", lab.pod("cold"))).get("event") == "done", "freezing twice is no error")
    ok(
        last(native("exec", "--pod", lab.pod("cold"), "--", "true")).get("code") == "CONFLICT",
        "exec into a frozen pod is refused, not hung",
    )
    native("thaw", "--pod", lab.pod("cold"))
    ok(moves(lab, "cold"), "thaw lets it run on")
    native("freeze", "--pod", lab.pod("cold"))
    ok(
        last(native("kill", "--pod", lab.pod("cold"))).get("event") == "done" and leftovers(read_state(lab.pod("cold"))) == [],
        "a frozen pod can be ended",
    )


def lease(lab: Lab, name: str, seconds: float, epoch: int = 5) -> dict[str, object]:
    until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9)
    return last(native("lease", "--pod", lab.pod(name), "--epoch", epoch, "--until-boottime-ns", max(until_ns, 1)))


def full_disk(lab: Lab) -> None:
    small = lab.pod("full")
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], check=True)
    try:
        lab.run("full", "sh", "-c", "dd if=/dev/zero of=/fill bs=64k; dd if=/dev/zero of=/fill2 bs=1; exit 4")
        ended = lab.wait("full")
        ok(ended.get("exit_status") == 4, "the exit status is kept on a full disk", ended)
        native("kill", "--pod", small)
        ok(leftovers(read_state(small)) == [], "and the pod is cleared away")
    finally:
        (small / "upper/fill").unlink(missing_ok=True)
        native("adopt", "--pod", small)
        native("kill", "--pod", small)
        subprocess.run(["umount", "-l", str(small)], check=True)


def leases(lab: Lab) -> None:
    lab.run("leased", "sh", "-c", COUNTER)
    ok(lease(lab, "leased", 0.8).get("event") == "done" and moves(lab, "leased"), "a pod with a lease runs")
    ok(
        until(lambda: lab.stat("leased")["state"] == "frozen", 3.0) and stands(lab, "leased"),
        "when the lease runs out the keeper freezes the pod",
    )
    ok(lease(lab, "leased", 30, epoch=4).get("code") == "STALE" and stands(lab, "leased"), "an older epoch does not thaw it")
    ok(lease(lab, "leased", 30).get("event") == "done" and moves(lab, "leased"), "a renewed lease of the same epoch thaws it")
    native("freeze", "--pod", lab.pod("leased"))
    lease(lab, "leased", 30)
    ok(lab.stat("leased")["state"] == "frozen", "a lease does not thaw what its owner suspended")
    native("thaw", "--pod", lab.pod("leased"))
    ok(moves(lab, "leased"), "the owner does")
    lease(lab, "leased", 30, epoch=6)
    ended = lab.wait("leased")
    ok("newer epoch" in str(ended.get("reason")), "a newer epoch ends the pod", ended)


def keepers(lab: Lab) -> None:
    lab.run("orphan", "sh", "-c", COUNTER)
    lease(lab, "orphan", 1.5)
    os.kill(lab.stat("orphan")["keeper_pid"], signal.SIGKILL)
    ok(until(lambda: lab.stat("orphan")["keeper_alive"] is False) and moves(lab, "orphan"), "a pod lives on when its keeper is killed")
    adopted = last(native("adopt", "--pod", lab.pod("orphan")))
    ok(
        adopted.get("adopted") is True and lab.stat("orphan")["keeper_alive"] is True and moves(lab, "orphan"),
        "adopt gives it a new keeper",
        adopted,
    )
    ok(last(native("adopt", "--pod", lab.pod("orphan"))).get("adopted") is False, "adopting twice is no error")
    ok(until(lambda: lab.stat("orphan")["state"] == "frozen", 4.0), "the new keeper holds the old lease")
    os.kill(lab.stat("orphan")["keeper_pid"], signal.SIGKILL)
    ok(lease(lab, "orphan", 30).get("event") == "done" and moves(lab, "orphan"), "whoever asks a dead keeper gets a new one first")
    os.kill(lab.stat("orphan")["keeper_pid"], signal.SIGKILL)
    native("kill", "--pod", lab.pod("orphan"), "--signal", 9)
    ok(
        until(lambda: lab.stat("orphan")["state"] == "ended") and lab.stat("orphan").get("signal") == 9,
        "podinit keeps the exit status when there is no keeper",
    )
    native("adopt", "--pod", lab.pod("orphan"))
    ok(
        until(lambda: leftovers(read_state(lab.pod("orphan"))) == []),
        "and adopt clears away what the dead keeper could not",
        leftovers(read_state(lab.pod("orphan"))),
    )
    lab.run("lost", "sleep", "1000")
    os.kill(lab.stat("lost")["init_pid"], signal.SIGKILL)
    lost = lab.wait("lost")
    ok(
        lost.get("exit_status") is None and "podinit was killed" in str(lost.get("reason")),
        "a pod whose podinit is killed is lost, and says so",
        lost,
    )


def hostile_root(lab: Lab) -> None:
    """What an image may bring as the pod's upper directory: links there must lead nobody out of the pod."""
    for place, below in (("etc", ""), ("opt", ""), ("etc", "/log")):
        for number in range(3, 14):
            name = f"link-{place}{below.replace('/', '-')}-{number}"
            (lab.pod(name) / "upper").mkdir(parents=True)
            (lab.pod(name) / "upper" / place).symlink_to(f"/proc/self/fd/{number}{below}")
            lab.run(name, "true")
    made = [path for pattern in ("passwd", "hosts", "log/passwd", "clusteros") for path in lab.dir.glob(f"link-*/{pattern}")]
    ok(not made, "links of /etc and /opt to an open directory: nothing is written there", made)
    secret = Path("/etc/shadow").read_text()
    (lab.pod("shadow") / "upper" / "etc").mkdir(parents=True)
    (lab.pod("shadow") / "upper" / "etc" / "passwd").symlink_to("/etc/shadow")
    lab.run("shadow", "true")
    passwd = lab.pod("shadow") / "upper" / "etc" / "passwd"
    ok(
        not passwd.is_symlink() and passwd.read_text() and secret.splitlines()[0] not in passwd.read_text(),
        "/etc/passwd as a link to /etc/shadow: nothing of that becomes readable",
    )
    (lab.pod("place") / "upper").mkdir(parents=True)
    (lab.pod("place") / "upper" / "proc").symlink_to("/tmp")
    ok(lab.run("place", "true").get("code") == "BAD_IMAGE", "a link where /proc is mounted is refused")
    own = os.getgroups()
    os.setgroups([4, 24])
    lab.run("ids", "sleep", "100", options=("--uid", 1234, "--gid", 1234))
    os.setgroups(own)
    groups = [line for line in Path(f"/proc/{lab.stat('ids')['init_pid']}/status").read_text().splitlines() if line.startswith("Groups:")]
    ok(groups and not groups[0].split()[1:], "podinit has no supplementary groups", groups)
    fds = Path(f"/proc/{lab.stat('ids')['init_pid']}/fd")
    held = [os.stat(path) for path in fds.iterdir() if path.name not in "012"]
    parent = os.stat(lab.dir)
    dirs = [path.name for path in fds.iterdir() if path.is_dir()]
    above = [os.stat(f"{fds}/{name}/..").st_ino for name in dirs]
    ok(len(held) == 1 and above and parent.st_ino not in above, "podinit holds POD alone, and from there nothing leads up", (held, above))


def main() -> int:
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        return 1
    with Lab() as lab:
        for part in (bad_input, life, the_end_of_all, identity, freezing, full_disk, leases, keepers, hostile_root):
            part(lab)
    return finish()


if __name__ == "__main__":
    sys.exit(main())
