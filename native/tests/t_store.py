#!/usr/bin/env python3
"""The verbs of images and stores, from outside: an image and a stream that Python wrote by the book, TAP output.

The encodings here are written a second time on purpose, from the descriptions in codec.h, manifest.c and stream.h: what
the engine reads must be what is described. Needs root for the full disk (a small tmpfs in a mount namespace of its own).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NATIVE = Path(os.environ.get("CLUSTEROS_NATIVE") or Path(__file__).resolve().parents[1] / "build" / "native")
VERBS = ("inspect", "verify", "gc", "image-chunks", "image-import", "store-missing", "store-export", "store-import", "store-scrub", "store-frees")
count = failures = 0


def ok(condition: bool, sentence: str) -> None:
    global count, failures
    count += 1
    failures += not condition
    print(f"{'ok' if condition else 'not ok'} {count} - {sentence}", flush=True)


class Outcome:
    """One run of the engine: exit status, what it printed, and its last event on either descriptor."""

    def __init__(self, *arguments: str | Path, stdin: bytes = b"") -> None:
        run = subprocess.run([str(NATIVE), *map(str, arguments)], input=stdin, capture_output=True, timeout=120, check=False)
        self.status, self.out, self.err = run.returncode, run.stdout, run.stderr

    @property
    def event(self) -> dict[str, object]:
        lines = [line for line in (self.out + b"\n" + self.err).splitlines() if line.startswith(b'{"event"')]
        return dict(json.loads(lines[-1])) if lines else {}

    def says(self, status: int, words: str) -> bool:
        right = self.status == status and words in str(self.event.get("message", ""))
        if not right:
            print(f"# exit {self.status}: {self.out[-300:]!r} {self.err[-300:]!r}")
        return right


# ---- the encodings, by their descriptions
def number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def text(value: bytes) -> bytes:
    return number(len(value)) + value


def body(*fields: bytes) -> bytes:
    joined = b"".join(fields)
    return struct.pack("<I", len(joined)) + joined


def items(*encoded: bytes) -> bytes:
    return number(len(encoded)) + b"".join(encoded)


def manifest(chunks: list[bytes]) -> bytes:
    """An image whose one shared memory object consists of the chunks."""
    extents, at = [], 0
    for chunk in chunks:
        extents.append(body(number(at), number(len(chunk)), hashlib.sha256(chunk).digest()))
        at += len(chunk)
    memobj = body(number(1), number(2), text(b"of \xff Python"), *[number(n) for n in (0, 0, at, 0o600, 0, 0, 0)], items(*extents))
    strings = [text(value) for value in (b"Linux", b"x86_64", b"", b"test")]
    empty_lists = number(0) * 15
    image = body(number(1), number(7), number(2_500_000), *strings, bytes(32), body(), empty_lists, items(memobj))
    head = b"COSIMAGE" + struct.pack("<QQ", 1, len(image)) + image
    return head + hashlib.sha256(head).digest()


def crc32c(data: bytes) -> int:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def frame(chunk: bytes, digest: bytes | None = None) -> bytes:
    digest = digest or hashlib.sha256(chunk).digest()
    return digest + struct.pack("<IIII", len(chunk), len(chunk), 0, crc32c(chunk)) + chunk


def stream(chunks: list[bytes]) -> bytes:
    return b"COSCHNKS" + b"".join(map(frame, chunks)) + bytes(48)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- tests
def arguments_are_checked(base: Path) -> None:
    ok(all(Outcome(verb, "--help").status == 0 for verb in VERBS), "every verb has --help")
    ok(all(Outcome(verb, "--nonsense").says(64, "--nonsense") for verb in VERBS), "an unknown option is refused by every verb")
    ok(Outcome("verify").says(64, "IMAGE is needed"), "verify without an image is refused")
    ok(Outcome("inspect", base / "a", "b").says(64, "one word too many"), "a second word is refused")
    ok(Outcome("verify", base / "nothing").says(66, "there is no manifest"), "an image that is not there: exit 66")
    ok(Outcome("store-export", "--store", base / "nothing").says(66, "there is no store"), "a store that is not there: exit 66")
    ok(
        Outcome("store-missing", "--store", base / "s0", stdin=b"abc\n").says(64, "line 1"),
        "a line that is no digest is refused by its number",
    )
    ok(Outcome("gc", "--store", base / "s0", "--images", base / "nowhere").status != 0, "gc without the images sweeps nothing")


def an_image_of_python_is_read(base: Path, chunks: list[bytes]) -> str:
    store, image, whole = base / "store", base / "images" / "a", manifest(chunks)
    digest = digest_of(whole)
    where = ("--dir", image, "--store", store, "--digest", digest)
    ok(
        Outcome("image-import", *where, stdin=whole).says(65, f"chunk {digest_of(chunks[0])}"),
        "an image whose chunks are not here is refused, and the chunk named",
    )
    ok(not (image / "manifest").exists(), "and not written")
    taken = Outcome("store-import", "--store", store, stdin=stream(chunks))
    ok(taken.status == 0 and taken.event.get("chunks") == len(chunks), "a stream written by Python is taken")
    ok(Outcome("image-import", *where, stdin=whole[:-1]).says(65, "is not the one of"), "another manifest than the digest says is refused")
    ok(
        Outcome("image-import", "--dir", image, "--store", store, "--digest", "abc", stdin=whole).says(64, "--digest"),
        "a digest that is none is refused",
    )
    done = Outcome("image-import", *where, stdin=whole)
    ok(done.status == 0 and (image / "manifest").read_bytes() == whole, "then the image is taken, byte for byte")
    ok(Outcome("image-import", *where, stdin=whole).status == 0, "twice is as good as once")
    verified = Outcome("verify", image, "--store", store)
    ok(
        verified.status == 0 and verified.event.get("digest") == digest and verified.event.get("chunks") == len(chunks),
        "verify finds it whole",
    )
    shown = json.loads(Outcome("inspect", image, "--json").out)
    ok(
        shown["kernel"] == "Linux"
        and len(shown["memobjs"][0]["extents"]) == len(chunks)
        and shown["memobjs"][0]["name"] == "of \ufffd Python",
        "inspect --json shows what Python wrote",
    )
    ok(digest.encode() in Outcome("inspect", image).out and b"2.500 ms" in Outcome("inspect", image).out, "inspect shows it in words")
    return digest


def chunks_go_to_another_store(base: Path, chunks: list[bytes], digest: str) -> None:
    image, other = base / "images" / "a", base / "other"
    needed = Outcome("image-chunks", "--image", image)
    ok(
        needed.out.decode().split("\n")[0] == f"{digest_of(chunks[0])} {len(chunks[0])}" and needed.out.count(b"\n") == len(chunks),
        "image-chunks lists digests and lengths",
    )
    missing = Outcome("store-missing", "--store", other, stdin=needed.out)
    ok(missing.status == 0 and missing.out.count(b"\n") == len(chunks), "all are missing in a new store")
    sent = Outcome("store-export", "--store", base / "store", stdin=missing.out)
    ok(sent.status == 0 and Outcome("store-import", "--store", other, stdin=sent.out).status == 0, "they are exported and imported")
    ok(Outcome("store-missing", "--store", other, stdin=needed.out).out == b"", "nothing is missing then")
    got = Outcome("image-import", "--dir", base / "copy", "--store", other, "--digest", digest, stdin=(image / "manifest").read_bytes())
    ok(got.status == 0 and Outcome("verify", "--store", other, base / "copy").status == 0, "and the copy is whole")


def bad_streams_are_refused(base: Path, chunks: list[bytes]) -> None:
    wrong = b"COSCHNKS" + frame(chunks[0]) + frame(chunks[1], digest=hashlib.sha256(b"other").digest()) + bytes(48)
    ok(
        Outcome("store-import", "--store", base / "bad", stdin=wrong).says(65, digest_of(b"other")),
        "a chunk under a wrong name is refused by name",
    )
    ok(
        Outcome("store-import", "--store", base / "bad", stdin=b"GET / HTTP/1.1\r\n").says(65, "no stream of chunks"),
        "what is no stream is refused",
    )
    ok(Outcome("store-import", "--store", base / "bad", stdin=stream(chunks)[:-20]).says(74, "cut off"), "a cut-off stream is refused")
    unknown = Outcome("store-export", "--store", base / "store", stdin=digest_of(b"nowhere").encode() + b"\n")
    ok(
        unknown.says(65, digest_of(b"nowhere")) and not unknown.out.endswith(bytes(48)),
        "a chunk that is not there is named, and the stream not closed",
    )


def damage_is_named_and_healed(base: Path, chunks: list[bytes]) -> None:
    image, store = base / "images" / "a", base / "store"
    pack = next((store / "packs").glob("*.pack"))
    at = pack.read_bytes().index(chunks[1][:64]) + 40
    data = bytearray(pack.read_bytes())
    data[at] ^= 4
    pack.write_bytes(data)
    found = Outcome("verify", image, "--store", store)
    warning = json.loads(found.out.splitlines()[0])
    ok(
        found.says(65, "1 of its") and warning["chunk"] == digest_of(chunks[1]) and "shared memory 1" in warning["message"],
        "one changed bit: exit 65, the chunk and its owner are named",
    )
    listed = Outcome("image-chunks", "--image", image).out
    ok(Outcome("store-missing", "--store", store, stdin=listed).out == b"", "a look alone does not tell")
    Outcome("verify", image, "--store", store, "--forget-damaged")
    ok(
        Outcome("store-missing", "--store", store, stdin=listed).out.decode().split() == [digest_of(chunks[1])],
        "verify --forget-damaged makes the chunk count as missing",
    )
    sent = Outcome("store-export", "--store", base / "other", stdin=digest_of(chunks[1]).encode())
    ok(
        Outcome("store-import", "--store", store, stdin=sent.out).status == 0 and Outcome("verify", image, "--store", store).status == 0,
        "fetched again from another store, the image is whole",
    )


def gc_by_command(base: Path, chunks: list[bytes]) -> None:
    store, images = base / "store", base / "images"
    extra = [os.urandom(100_000) for _ in range(3)]
    Outcome("store-import", "--store", store, stdin=stream(extra))
    sweep = ("gc", "--store", store, "--images", images, "--min-age", "0")
    planned = Outcome(*sweep, "--dry-run").event
    done = Outcome(*sweep).event
    ok(planned["removed_chunks"] == done["removed_chunks"] and int(str(done["removed_chunks"])) >= 3, "gc removes what the dry run said")
    ok(Outcome("verify", images / "a", "--store", store).status == 0, "the image stays whole")
    ok(not list((store / "damaged").glob("*")), "markers of damage go with their pack")
    missing = Outcome("store-missing", "--store", store, stdin="\n".join(map(digest_of, extra + chunks)).encode()).out.decode().split()
    ok(sorted(missing) == sorted(map(digest_of, extra)), "what no image needs is gone, and only that")


def killed_imports_are_taken_up_again(base: Path, dice: random.Random) -> None:
    store, chunks = base / "killed", [dice.randbytes(200_000) for _ in range(40)]
    whole = stream(chunks)
    for _ in range(15):
        process = subprocess.Popen([NATIVE, "store-import", "--store", store], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stdin
        try:
            process.stdin.write(whole[: dice.randrange(len(whole))])
            process.stdin.flush()
            time.sleep(dice.random() * 0.02)
        except BrokenPipeError:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ok(Outcome("store-import", "--store", store, stdin=whole).status == 0, "after 15 imports killed anywhere, the next one is taken")
    ok(Outcome("store-missing", "--store", store, stdin="\n".join(map(digest_of, chunks)).encode()).out == b"", "and whole")
    (base / "none").mkdir()
    ok(
        Outcome("gc", "--store", store, "--images", base / "none").status == 0 and not list(store.rglob("*.part")),
        "gc sweeps what the killed ones left",
    )


def a_full_disk_is_told(base: Path) -> None:
    """Runs itself in a mount namespace with a tmpfs of 1 MiB."""
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" "$3" --full-disk "$1"'
    disk = base / "disk"
    disk.mkdir()
    run = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", disk, sys.executable, __file__], capture_output=True, text=True, check=False
    )
    steps = run.stdout.split()
    if run.returncode:
        print(f"# {run.stderr}")
    ok("small" in steps, "a small disk takes a small stream")
    ok("full" in steps, "a full disk: exit 73")
    ok("kept" in steps, "what was there before is there")
    ok("clean" in steps, "nothing half-written stays")
    ok("again" in steps, "and with room again the store works at once")


def full_disk(disk: Path) -> None:
    store, small, large = disk / "store", [os.urandom(200_000)], [os.urandom(250_000) for _ in range(8)]
    images = disk / "images"
    images.mkdir()
    steps = [("small", Outcome("store-import", "--store", store, stdin=stream(small)).status == 0)]
    steps.append(("full", Outcome("store-import", "--store", store, stdin=stream(large)).status == 73))
    kept = Outcome("store-export", "--store", store, stdin=digest_of(small[0]).encode())
    steps.append(("kept", kept.status == 0 and small[0] in kept.out))
    steps.append(("clean", not list(store.rglob("*.part"))))
    more = [os.urandom(250_000)]
    steps.append(("again", Outcome("store-import", "--store", store, stdin=stream(more)).status == 0))
    print(*(name for name, good in steps if good))


def main() -> int:
    seed = int(os.environ.get("TEST_SEED") or time.time_ns())
    print(f"# TEST_SEED={seed}")
    dice = random.Random(seed)
    base = Path(tempfile.mkdtemp(prefix="t_store."))
    try:
        chunks = [dice.randbytes(size) for size in (4096, 262144, 100_001, 1)]
        arguments_are_checked(base)
        digest = an_image_of_python_is_read(base, chunks)
        chunks_go_to_another_store(base, chunks, digest)
        bad_streams_are_refused(base, chunks)
        damage_is_named_and_healed(base, chunks)
        gc_by_command(base, chunks)
        killed_imports_are_taken_up_again(base, dice)
        a_full_disk_is_told(base)
    finally:
        shutil.rmtree(base)
    print(f"1..{count}")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--full-disk":
        full_disk(Path(sys.argv[2]))
    else:
        sys.exit(main())
