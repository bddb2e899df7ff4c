#!/usr/bin/env python3
"""Images that somebody changed on purpose, with every checksum put right again, are given to `native restore`: it ends in time, with a pod of the same user and
no more rights or with a clear error, never with a fault of its own; nothing outside of the pod changes, and nothing is left.
Seeded, the seed is printed: `t_hostile.py [SEED [SECONDS]]`."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

from pod_lab import NATIVE, Lab, finish, is_alive, last, native, ok, read_state, scratch
from t_victims import BUILD, Trial

VICTIMS = ("c_tree", "f_files", "f_unix", "c_shared", "n_mounts", "n_pty", "n_ipc", "n_links", "n_overlay")
SECONDS = 14
HEAD, TAIL = 24, 32
CLEAR = {"BAD_IMAGE", "UNSUPPORTED", "CONFLICT", "DENIED", "NO_INPUT", "NO_SPACE", "OS", "IO", "BUSY", "NO_COMMAND", "INVALID", "USAGE"}
PATIENCE_S = 40


def sealed(start: bytes, payload: bytes) -> bytes:
    """A manifest around it: magic and format as they were, length and digest right."""
    head = start + struct.pack("<Q", len(payload))
    return head + payload + hashlib.sha256(head + payload).digest()


def numbers(rng: random.Random) -> bytes:
    return rng.choice([b"\0", b"\1", b"\x7f", b"\x80", b"\xff", bytes([rng.randrange(256)]), b"\xff\xff\xff\xff\x0f", b"../", b"/etc/shadow\0"])


def changed(payload: bytes, rng: random.Random) -> bytes:
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, new = rng.randrange(len(data)), numbers(rng)
        kind = rng.randrange(5)
        if kind < 3:
            data[at : at + len(new)] = new
        elif kind == 3:
            other = rng.randrange(len(data))
            data[at : at + 16] = data[other : other + 16]
        else:
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def tree_of(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for file in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(word) for word in file.read_text().split()]
            except OSError:
                pass
    return found[1:]


def too_much(pod: Path) -> str:
    """Processes of the pod that are more than uid 1000 without capabilities, but in user namespaces of their own, which are uid 1000's."""
    for pid in tree_of(int(read_state(pod)["init_pid"])):
        try:
            apart = os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
            lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
        except OSError:
            continue
        ids = {*lines["Uid"].split(), *lines["Gid"].split()}
        if ids != {"1000"} or (not apart and (int(lines["CapEff"], 16) or int(lines["CapPrm"], 16))):
            return f"process {pid}: {ids}, {lines}"
    return ""


class Canary:
    """Files that only root may touch, in the way of images that lead outside."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "secret").write_text("nobody reads this\n")
        (place / "secret").chmod(0o600)
        self.before = self.look()

    def look(self) -> list[object]:
        paths = [self.place / "secret", Path("/etc/passwd"), Path("/etc/shadow"), Path("/etc/hostname"), Path("/root")]
        return [(str(p), p.lstat().st_mtime_ns, p.lstat().st_mode, p.lstat().st_uid, p.lstat().st_size if p.is_file() else 0) for p in paths if p.exists()]


def restore(t: Trial, number: int) -> dict[str, object]:
    command = ("restore", "--image", t.image(1), "--store", t.store, "--pod", t.pod(number), *t.files(), "--uid", 1000, "--gid", 1000)
    try:
        result = subprocess.run([str(NATIVE), *map(str, command)], capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return {"event": "nothing", "message": f"no answer within {PATIENCE_S} s"}
    return last(result)


def verdict(t: Trial, number: int) -> str:
    answer = restore(t, number)
    why = ""
    if answer["event"] == "done":
        why = too_much(t.pod(number))
    elif answer["event"] != "failed" or answer.get("code") not in CLEAR or not answer.get("message"):
        why = str(answer)
    native("kill", "--pod", t.pod(number))
    state = read_state(t.pod(number)) if (t.pod(number) / "state").exists() else {}
    if not why and is_alive(state.get("init_pid", "0")):
        why = f"process 1 of the pod is still there after {answer}"
    shutil.rmtree(t.pod(number), ignore_errors=True)
    return why


def images(t: Trial, rng: random.Random, end: float, canary: Canary) -> tuple[str, int, int]:
    manifest = t.image(1) / "manifest"
    whole, number = manifest.read_bytes(), 10
    payload, done = whole[HEAD:-TAIL], 0
    while time.monotonic() < end:
        number += 1
        bad = changed(payload, rng)
        manifest.write_bytes(sealed(whole[:16], bad))
        why = verdict(t, number)
        if not why and canary.look() != canary.before:
            why = f"outside of the pod something changed: {canary.look()}"
        if why:
            keep = Path(f"/var/tmp/clusteros-hostile-{t.name}.manifest")
            keep.write_bytes(sealed(whole[:16], bad))
            return f"{why} (kept: {keep})", number - 10, done
        done += 1
    manifest.write_bytes(whole)
    return "", number - 10, done


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    print(f"# seed {seed}", flush=True)
    with scratch("hostile") as place, Lab() as lab:
        canary = Canary(place)
        for name in VICTIMS:
            shutil.copy(BUILD / name, place)
            t = Trial(lab, place / name)
            why = t.start() or t.snapshot(0, 1, "--then", "kill") or t.ended(0)
            tried = 0
            if not why:
                why, tried, _ = images(t, random.Random(f"{seed} {name}"), time.monotonic() + seconds / len(VICTIMS), canary)
            ok(not why and tried > 0, f"{name}: {tried} changed images do nothing that their owner could not do, and are answered clearly", why)
            why = why or t.restore(1, 1) or t.verify(1)
            ok(not why, f"{name}: the unchanged one comes back", why)
    return finish()


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("needs root")
    sys.exit(main())
