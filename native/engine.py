"""The Python door to the engine: runs `native VERB …`, reads its JSON lines, raises its failures.

Invariants: a call ends within its timeout; reading stops at `done` or `failed` and never waits for end of file
(processes that the engine leaves behind may hold the descriptor); only the client process that was started here
is ever killed, never a keeper or a pod; standard input is closed on the way out, which means `abort` to a
verb that waits at a barrier. Knows nothing of nodes, jobs or Celery.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from native.codes import CODES, Code, by_exit

LINE_MAX_BYTES = 16 << 20
READ_BYTES = 64 << 10
STDERR_TAIL_BYTES = 2000
GRACE_S = 5.0

Event = dict[str, Any]


class EngineError(Exception):
    """An outcome other than OK: `code` is a row of codes.def, `message` reads as a path."""

    def __init__(self, code: str | Code, message: str) -> None:
        self.code = CODES[code] if isinstance(code, str) else code
        self.message = message
        super().__init__(f"{self.code.name}: {message}")


def find_binary() -> Path:
    """CLUSTEROS_NATIVE, or the build beside this package. Raises EngineError NO_INPUT."""
    path = Path(os.environ.get("CLUSTEROS_NATIVE") or Path(__file__).parent / "build" / "native")
    if not os.access(path, os.X_OK):
        raise EngineError("NO_INPUT", f"the engine is not at {path}: build it with `make -C native`")
    return path


class Lines:
    """Whole lines from a descriptor, each with a deadline, of bounded length."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._searched = 0
        os.set_blocking(fd, False)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def next(self, deadline: float) -> bytes | None:
        """The next line without its newline; None at end of file. TimeoutError past `deadline` (monotonic)."""
        while True:
            line = self._take()
            if line is not None:
                return line
            if len(self._buffer) > LINE_MAX_BYTES:
                raise EngineError("PROTOCOL", f"the engine wrote a line of more than {LINE_MAX_BYTES} bytes")
            if not self._fill(deadline):
                return None

    def _take(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _fill(self, deadline: float) -> bool:
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        if not self._poll.poll(left_ms):
            raise TimeoutError
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return True
        self._buffer += data
        return bool(data)


def parse_event(line: bytes) -> Event:
    """One line of the engine as an event; PROTOCOL if it is not one."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        raise EngineError("PROTOCOL", f"the engine wrote no JSON: {line[:200]!r}") from None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise EngineError("PROTOCOL", f"the engine wrote a line that is no event: {line[:200]!r}")
    return event


def failure_of(event: Event) -> EngineError:
    """The exception of a `failed` event; its exit status decides when its name is not in the table."""
    name, status = event.get("code"), event.get("exit")
    code = CODES.get(str(name)) or by_exit(status if isinstance(status, int) else -1)
    if code.name == "OK":
        return EngineError("PROTOCOL", "the engine failed with the code OK")
    return EngineError(code, str(event.get("message", code.words)))


class Act:
    """One running verb. A context manager: on the way out standard input is closed and the client is reaped."""

    def __init__(self, argv: list[str], env: Mapping[str, str] | None) -> None:
        self.verb = argv[1]
        self.warnings: list[str] = []
        self.last_progress: Event | None = None
        self._ended = False
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the act)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=env, start_new_session=True
        )
        assert self._process.stdout is not None
        self._lines = Lines(self._process.stdout.fileno())

    @property
    def pid(self) -> int:
        """The client process (to be killed in tests of faults)."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def until(self, *names: str, timeout_s: float) -> Event:
        """Read events up to one of `names`. EngineError on `failed`, on a broken line and when time is up (BUSY)."""
        deadline = time.monotonic() + timeout_s
        while True:
            event = self._next(deadline)
            if event["event"] == "failed":
                self._ended = True
                raise failure_of(event)
            self._note(event)
            if event["event"] in names:
                return event
            if self._ended:
                raise EngineError("PROTOCOL", f"native {self.verb} was done before {' or '.join(names)}")

    def done(self, timeout_s: float) -> Event:
        """The `done` event: its fields are the result."""
        return self.until("done", timeout_s=timeout_s)

    def say(self, word: str) -> None:
        """Answer at a barrier: stop, go or abort. A client that is gone is noticed by the next read."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(word.encode() + b"\n")
            self._process.stdin.flush()

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Write data to a verb that takes a stream, then end its input. A client that gave up is noticed by `done`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            for piece in pieces:
                self._process.stdin.write(piece)
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End the client at once: nothing is waited for."""
        self._process.kill()

    def close(self) -> None:
        """End of input (abort at a barrier), then reap; the client gets KILL when it does not end by itself."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _next(self, deadline: float) -> Event:
        try:
            line = self._lines.next(deadline)
        except TimeoutError:
            raise EngineError("BUSY", f"native {self.verb} did not answer in time") from None
        if line is None:
            raise self._died()
        return parse_event(line)

    def _note(self, event: Event) -> None:
        if event["event"] == "warn":
            self.warnings.append(str(event.get("message") or event.get("words") or event))
        elif event["event"] == "progress":
            self.last_progress = event
        elif event["event"] == "done":
            self._ended = True

    def _died(self) -> EngineError:
        """The output ended without an end line: say how the client ended and what it wrote last."""
        try:
            status = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return EngineError("PROTOCOL", f"native {self.verb} closed its output and goes on")
        self._stderr.seek(0)
        tail = self._stderr.read()[-STDERR_TAIL_BYTES:].decode(errors="replace").strip()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
        code = by_exit(status) if status > 0 else CODES["BUG"]
        return EngineError(code, f"native {self.verb} {how}" + (f": {tail}" if tail else ""))


@contextmanager
def ended_after(kill: Callable[[], None], timeout_s: float | None) -> Iterator[threading.Event]:
    """Kill what is waited for when it takes longer: reads and writes that nobody answers come back then. The event tells that it was."""
    late = threading.Event()
    if timeout_s is None:
        yield late
        return

    def end() -> None:
        late.set()
        kill()

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def late_or(error: EngineError, late: threading.Event, verb: str, timeout_s: float | None) -> EngineError:
    return EngineError("BUSY", f"native {verb} was ended: it took longer than {timeout_s:g} s") if late.is_set() else error


class Engine:
    """The verbs of one `native` binary."""

    def __init__(self, binary: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.binary = binary or find_binary()
        self._env = {**os.environ, **env} if env else None

    def start(self, verb: str, *args: str | Path) -> Act:
        """Start a verb; use it as a context manager."""
        try:
            return Act([str(self.binary), verb, *map(str, args)], self._env)
        except OSError as error:
            raise EngineError("OS", f"native {verb} cannot be started: {error}") from error

    def call(self, verb: str, *args: str | Path, timeout_s: float = 30.0) -> Event:
        """Run a verb that waits for nobody: its `done` event, with what it warned of under `warnings`."""
        with self.start(verb, *args) as act:
            event = act.done(timeout_s)
            return {**event, "warnings": act.warnings} if act.warnings else event

    def feed(self, verb: str, *args: str | Path, pieces: Iterable[bytes], timeout_s: float) -> Event:
        """Run a verb that takes `pieces` on standard input; its `done` event. BUSY: it took longer."""
        deadline = time.monotonic() + timeout_s
        with self.start(verb, *args) as act, ended_after(act.kill, timeout_s) as late:
            act.feed(pieces)
            try:
                return act.done(deadline - time.monotonic())
            except EngineError as error:
                raise late_or(error, late, verb, timeout_s) from None

    @contextmanager
    def reading(self, verb: str, *args: str | Path, stdin: bytes = b"", timeout_s: float | None = None) -> Iterator[IO[bytes]]:
        """Run a verb whose standard output is data: a file to read it from. Its failure is raised at the end (BUSY: it took longer).

        A reader that leaves early by an exception ends the client; what it wrote until then is what there is.
        """
        with tempfile.TemporaryFile() as stderr, tempfile.TemporaryFile() as source:
            source.write(stdin)
            source.seek(0)
            argv = [str(self.binary), verb, *map(str, args)]
            process = subprocess.Popen(
                argv, stdin=source, stdout=subprocess.PIPE, stderr=stderr, env=self._env, start_new_session=True
            )
            assert process.stdout is not None
            try:
                with ended_after(process.kill, timeout_s) as late:
                    yield process.stdout
                    status = process.wait(GRACE_S)
            finally:
                process.stdout.close()
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if status:
                stderr.seek(0)
                raise late_or(stream_failure(verb, status, stderr.read()[-STDERR_TAIL_BYTES:]), late, verb, timeout_s)

    def exec_in_pod(self, pod: Path, argv: list[str], timeout_s: float, max_bytes: int) -> tuple[int, bytes]:
        """Run a command in a pod: (exit status by the shell's convention, the first `max_bytes` of its output)."""
        with tempfile.TemporaryFile() as output:
            command = [str(self.binary), "exec", "--pod", str(pod), "--", *argv]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._env, start_new_session=True
            )
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise EngineError("BUSY", f"the command did not end within {timeout_s:g} s") from None
            output.seek(0)
            return status, output.read(max_bytes)


def stream_failure(verb: str, status: int, stderr: bytes) -> EngineError:
    """What a data verb meant by its exit status and the last line on stderr (an event, or plain words)."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    with suppress(EngineError, IndexError):
        event = parse_event(lines[-1].encode())
        if event["event"] == "failed":
            return failure_of(event)
    words = lines[-1] if lines else f"native {verb} ended with {status}"
    return EngineError(by_exit(status) if status > 0 else CODES["BUG"], words)
