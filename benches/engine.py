"""The engine for benchmarks: pods of benches/victim.c, snapshots, restores; figures in milliseconds and bytes."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
NATIVE = REPOSITORY / "native" / "build" / "native"
PEAK_BYTES: dict[str, int] = defaultdict(int)
"""By verb: the most memory that an engine of this run had resident, those that it waited for too (getrusage(2))."""


READY_MEBIBYTES = [1536]
"""What `memory_ready` touches: more than any case needs afresh; greater with `--full`."""
MADV_POPULATE_WRITE = 23


def memory_ready() -> None:
    """Touch memory and give it back, so that the kernel's next free pages are really there.

    A virtual machine may give memory that has been free for two seconds back to its host (free page reporting): the next touch of a page
    costs 11 µs there instead of 0.4. That would be measured instead of the engine. On a PC it changes nothing.
    """
    child = os.fork()  # of its own: what this process once held would be counted as the engine's (getrusage(2))
    if child == 0:
        with mmap.mmap(-1, READY_MEBIBYTES[0] << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room:
            room.madvise(mmap.MADV_HUGEPAGE)
            room.madvise(MADV_POPULATE_WRITE)
            os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RuntimeError(f"no {READY_MEBIBYTES[0]} MiB of memory are to be had")


def compile_program(name: str, directory: Path) -> Path:
    """Compile benches/NAME.c; the path of the program."""
    program = directory / name
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(REPOSITORY / "benches" / f"{name}.c"), "-lm", "-lpthread"]
    subprocess.run(command, check=True)
    return program


def native(*arguments: object) -> list[dict[str, Any]]:
    """Run the engine; its lines, the last is `done`.

    Raises:
        RuntimeError: it failed; its own words are in the text.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([str(NATIVE), *map(str, arguments)], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said, words = (file.seek(0) or file.read().decode() for file in (out, err))
    PEAK_BYTES[str(arguments[0])] = max(PEAK_BYTES[str(arguments[0])], usage.ru_maxrss << 10)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    if process.returncode != 0 or not lines or lines[-1]["event"] != "done":
        raise RuntimeError(f"native {arguments[0]}: {lines[-1] if lines else words}")
    return lines


class Pod:
    """A pod with one of the victims, and the images taken of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.pod = directory, directory / "pod"
        self.out, self.store, self.images = directory / "out", directory / "store", 0

    def lines(self, word: str) -> list[str]:
        """Lines of its output that begin with `word`."""
        text = self.out.read_text() if self.out.exists() else ""
        return [line for line in text.splitlines() if line.startswith(word)]

    def wait_for(self, word: str, count: int = 1, timeout_s: float = 120.0) -> str:
        """Until its output has so many lines that begin with `word`; the last of them."""
        deadline = time.monotonic() + timeout_s
        while len(found := self.lines(word)) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the pod did not print '{word}' in {timeout_s:.0f} s")
            time.sleep(0.01)
        return found[-1]

    def signal(self, number: int) -> None:
        native("kill", "--pod", self.pod, "--signal", number)

    def ask(self, number: int, word: str) -> str:
        """Send a signal and wait for the line that answers it."""
        before = len(self.lines(word))
        self.signal(number)
        return self.wait_for(word, before + 1)

    def pid(self) -> int:
        """Of its program, as this machine counts."""
        return int(native("pid", "--pod", self.pod, 2, "--inside")[-1]["pid"])

    def image(self) -> Path:
        return self.directory / f"image-{self.images}"

    def snapshot(self, *options: object, follow: bool = False) -> dict[str, float]:
        """Take one (after the last one, if `follow`): pause_ms, took_ms, bytes, bytes_new, bytes_kept."""
        memory_ready()
        return self.snapshot_now(*options, follow=follow)

    def snapshot_now(self, *options: object, follow: bool = False) -> dict[str, float]:
        """The same, with memory as it is."""
        parent: tuple[object, ...] = ("--parent", self.image()) if follow else ()
        self.images += 1
        lines = native("snapshot", "--pod", self.pod, "--image", self.image(), "--store", self.store, *parent, *options)
        return dict(lines[-1])

    def restore(self) -> float:
        """Milliseconds of a restore of the last image; the pod that came back is ended."""
        return self.restore_lazily(lazily=False)[0]

    def restore_lazily(self, *, lazily: bool = True) -> tuple[float, float]:
        """Milliseconds of a restore until all memory is there, and until the program's first instruction (`ticks` tells it; else 0)."""
        back, out, options = self.directory / "back", self.directory / "back.out", ["--lazy"] if lazily else []
        memory_ready()
        begin, clock = time.monotonic(), time.time()
        try:
            native("restore", *options, "--image", self.image(), "--store", self.store, "--pod", back, "--stdout", out, "--stderr", out)
            while (back / "pager.sock").exists():
                time.sleep(0.001)
            took = time.monotonic() - begin
            told = [float(line.split()[1]) for line in out.read_text().splitlines() if line.startswith("again")]
            return took * 1e3, (min(told) - clock) * 1e3 if told else 0.0
        finally:
            subprocess.run([str(NATIVE), "kill", "--pod", str(back)], capture_output=True, check=False)
            shutil.rmtree(back, ignore_errors=True)
            out.unlink(missing_ok=True)


@contextmanager
def running(base: Path, program: Path, *arguments: object) -> Iterator[Pod]:
    """A pod that runs `program`, ready; nothing of it is left afterwards."""
    directory = base / "case"
    directory.mkdir()
    pod = Pod(directory)
    try:
        native("run", "--pod", pod.pod, "--stdout", pod.out, "--stderr", pod.out, "--", program, *arguments)
        pod.wait_for("ready")
        yield pod
    finally:
        subprocess.run([str(NATIVE), "kill", "--pod", str(pod.pod)], capture_output=True, check=False)
        shutil.rmtree(directory, ignore_errors=True)


def median(values: list[float]) -> float:
    return statistics.median(values)
