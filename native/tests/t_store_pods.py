#!/usr/bin/env python3
"""Images of a real pod: every changed bit is found, the second image of a pod takes little, gc spares it, and it comes
back on another store that was filled by the transport verbs. Root; TAP output.
"""

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

NATIVE = Path(os.environ.get("CLUSTEROS_NATIVE") or Path(__file__).resolve().parents[1] / "build" / "native")
JOB = """
import os, time
memory = bytearray(os.urandom(8 << 20))
open('/tmp/kept', 'wb').write(os.urandom(1 << 20))
for count in range(10**9):
    memory[count % 4096] = count % 256
    print(count, flush=True)
    time.sleep(0.01)
"""
count = failures = 0


def ok(condition: bool, sentence: str) -> None:
    global count, failures
    count += 1
    failures += not condition
    print(f"{'ok' if condition else 'not ok'} {count} - {sentence}", flush=True)


def native(*arguments: str | Path, stdin: bytes = b"", expect: int = 0) -> bytes:
    run = subprocess.run([str(NATIVE), *map(str, arguments)], input=stdin, capture_output=True, timeout=120, check=False)
    if run.returncode != expect:
        print(f"# native {arguments[0]}: exit {run.returncode}: {run.stdout[-400:]!r} {run.stderr[-400:]!r}")
        raise RuntimeError(f"native {arguments[0]}")
    return run.stdout


def last_event(out: bytes) -> dict[str, object]:
    return dict(json.loads(out.splitlines()[-1]))


def verifies(image: Path, store: Path) -> bool:
    run = subprocess.run([NATIVE, "verify", image, "--store", store], capture_output=True, timeout=120, check=False)
    if run.returncode not in (0, 65):
        print(f"# verify: exit {run.returncode}: {run.stdout[-300:]!r}")
    return run.returncode == 0


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def await_lines(path: Path, more_than: int) -> bool:
    deadline = time.monotonic() + 30
    while len(lines_of(path)) <= more_than and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(lines_of(path)) > more_than


def two_images(base: Path) -> tuple[Path, Path, Path]:
    pod, store, images, out = base / "pod", base / "store", base / "images", base / "out"
    native("run", "--pod", pod, "--stdout", out, "--stderr", base / "err", "--", sys.executable, "-c", JOB)
    await_lines(out, 5)
    first = last_event(native("snapshot", "--pod", pod, "--image", images / "1", "--store", store))
    lines = len(lines_of(out))
    ok(await_lines(out, lines), "the job runs on after its first image")
    rest = ("--store", store, "--parent", images / "1", "--then", "kill")
    second = last_event(native("snapshot", "--pod", pod, "--image", images / "2", *rest))
    # what changed lies in a few chunks; the job's 8 MiB are random and did not
    ok(
        int(str(first["bytes_new"])) > 9 << 20 and int(str(second["bytes_new"])) < 4 << 20,
        f"the second image takes {second['bytes_new']} new bytes",
    )
    ok(verifies(images / "1", store) and verifies(images / "2", store), "both verify")
    return images / "1", images / "2", store


def changed_bits_are_found(images: tuple[Path, Path], store: Path, dice: random.Random, tries: int) -> None:
    files = [image / "manifest" for image in images] + sorted((store / "packs").iterdir())
    unseen = 0
    for _ in range(tries):
        path = dice.choice(files)
        at, bit = dice.randrange(path.stat().st_size), 1 << dice.randrange(8)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ bit]))
        if all(verifies(image, store) for image in images):
            unseen += 1
            print(f"# not found: {path} byte {at} bit {bit}")
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([byte]))
    ok(unseen == 0, f"{tries} changed bits anywhere in two images and their store: each is found")
    ok(all(verifies(image, store) for image in images), "and put right, both verify again")


def copied(image: Path, store: Path, base: Path) -> tuple[Path, Path]:
    other, copy = base / "other-store", base / "copy"
    needed = native("image-chunks", "--image", image)
    sent = native("store-export", "--store", store, stdin=native("store-missing", "--store", other, stdin=needed))
    native("store-import", "--store", other, stdin=sent)
    digest = last_event(native("verify", image, "--store", store))["digest"]
    manifest = (image / "manifest").read_bytes()
    native("image-import", "--dir", copy, "--store", other, "--digest", str(digest), stdin=manifest)
    return copy, other


def comes_back(copy: Path, store: Path, base: Path) -> None:
    pod, out = base / "pod2", base / "out2"
    before = int(lines_of(base / "out")[-1])
    native("restore", "--image", copy, "--store", store, "--pod", pod, "--stdout", out, "--stderr", base / "err2")
    ok(await_lines(out, 3) and before - 1 <= int(lines_of(out)[0]) <= before + 2, "the copy comes back where the job was")
    native("kill", "--pod", pod)


def main() -> int:
    seed = int(os.environ.get("TEST_SEED") or time.time_ns())
    print(f"# TEST_SEED={seed}")
    base = Path(tempfile.mkdtemp(prefix="t_store_pods."))
    try:
        first, second, store = two_images(base)
        changed_bits_are_found((first, second), store, random.Random(seed), 40)
        copy, other = copied(second, store, base)
        ok(verifies(copy, other), "the second image alone is copied to another store, and whole")
        shutil.rmtree(first)
        sweep = ("gc", "--store", store, "--images", second.parent, "--min-age", "0")
        native(*sweep)
        ok(verifies(second, store), "gc without the first image spares what the second took over from it")
        shutil.rmtree(second)
        ok(last_event(native(*sweep))["packs"] == 0, "and without both it empties the store")
        shutil.rmtree(store)
        comes_back(copy, other, base)
    finally:
        for pod in base.glob("pod*"):
            subprocess.run([NATIVE, "kill", "--pod", pod], capture_output=True, check=False)
        shutil.rmtree(base, ignore_errors=True)
    print(f"1..{count}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
