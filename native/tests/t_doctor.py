#!/usr/bin/env python3
"""`native doctor`: it tells the kernel, who asks, each feature with what its absence costs; as root and as an ordinary user; in words and as JSON;
and no process of its trials is left, also when it is killed among them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pod_lab import NATIVE, finish, ok, until

NOBODY = "65534"
BECOME = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
SPACES = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
RIGHTS = ("map_files", "handles", "filters", "buffers", "urgent")
KILLS = 12


def doctor(binary: Path, *options: str, before: tuple[str, ...] = ()) -> str:
    return subprocess.run([*before, str(binary), "doctor", *options], capture_output=True, text=True, timeout=60).stdout


def findings(text: str) -> dict[str, object]:
    lines = [line for line in text.splitlines() if '"event":"done"' in line]
    return json.loads(lines[-1]) if lines else {}


def trials(binary: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(f"{binary}\0doctor".encode()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def told(binary: Path) -> None:
    words, answer = doctor(binary), findings(doctor(binary, "--json"))
    release = os.uname().release
    ok(release in words.splitlines()[0] and "root of the machine" in words.splitlines()[0], "doctor names the kernel and who asks", words[:200])
    probes = answer.get("probes", [])
    good = answer.get("kernel") == release and len(probes) > 15 and all(p["words"] and p["without"] and (p["ok"] or p["reason"]) for p in probes)
    ok(good, "every feature has words, what its absence costs, and a reason when it is absent", answer)
    pools = {p["page_bytes"]: p for p in answer.get("huge_pages", [])}
    known = [int(p.name.split("-")[1].removesuffix("kB")) * 1024 for p in Path("/sys/kernel/mm/hugepages").glob("hugepages-*")]
    ok(sorted(pools) == sorted(known) and all(f"Huge pages of {size // 1024} KiB: {p['total']}, free {p['free']}" in words for size, p in pools.items()),
       "the pools of huge pages are told", (pools, known))
    missing = [p for p in probes if not p["ok"] and p["needed"]]
    ok(answer.get("missing") == len(missing) and not missing, "nothing that pods need is missing for root here", missing)
    ok(all(f"  NO   {p['words']}: {p['reason']}\n       so: {p['without']}" in words for p in probes if not p["ok"]), "the words say the same", words)


def ordinary(binary: Path) -> None:
    if subprocess.run([*BECOME, *SPACES, "true"], capture_output=True).returncode != 0:
        ok("NO   namespaces" in doctor(binary, before=BECOME), "user namespaces are forbidden here, and doctor says so")
        return
    words, answer = doctor(binary, before=(*BECOME, *SPACES)), findings(doctor(binary, "--json", before=(*BECOME, *SPACES)))
    ok("ordinary user, root of a user namespace" in words.splitlines()[0], "root of a user namespace is not taken for root", words[:200])
    lost = {p["name"] for p in answer.get("probes", []) if not p["ok"]}
    ok(lost >= set(RIGHTS), "what only root may is told to an ordinary user", lost)
    needed = [p["name"] for p in answer.get("probes", []) if not p["ok"] and p["needed"] and p["name"] != "freezer"]
    ok(not needed, "pods and snapshots need nothing of that", needed)


def killed(binary: Path, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(KILLS):
        process = subprocess.Popen([str(binary), "doctor"], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.wait()
    ok(until(lambda: not trials(binary), 15), f"no process of a trial is left, whenever doctor is killed (seed {seed})", trials(binary))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="clusteros-doctor-test-") as scratch:
        binary, state = Path(scratch) / "native", Path(scratch) / "state"
        state.mkdir()
        state.chmod(0o777)
        os.environ["CLUSTEROS_NODE_STATE"] = str(state)
        shutil.copy(NATIVE, binary)
        Path(scratch).chmod(0o755)
        told(binary)
        ordinary(binary)
        ok(not list(state.iterdir()), "no trial leaves anything on the disk", list(state.rglob("*"))[:9])
        killed(binary, int(time.time()))
    return finish()


if __name__ == "__main__":
    sys.exit(main())
