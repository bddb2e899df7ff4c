"""The border to the engine, from both sides: golden lines that a C program writes and the Python door reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from native.codes import CODES, by_exit, read_codes
from native.engine import Engine, EngineError, find_binary, parse_event

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
WRITER = r"""
#include <string.h>
#include "base/base.h"
int main(int argc, char **argv)
{
    output_open(1);
    if (argc > 1 && strcmp(argv[1], "failures") == 0) {
        struct err e = {0};
        (void)err_set(&e, E_NO_SPACE, "%s", "write pack: No space left on device");
        (void)err_wrap(&e, "snapshot pod %s", "/p");
        output_failed(&e);
        (void)err_set(&e, E_UNSUPPORTED, "pid 7: descriptor 5: io_uring instance");
        output_failed(&e);
        (void)err_set(&e, E_BAD_IMAGE, "file \"a\\b\001\" is damaged \xff \xc3\xbc");
        output_failed(&e);
        return 0;
    }
    output_event("hello", "\"verb\":\"snapshot\"");
    output_event("step", "\"name\":\"stop\"");
    char *words = json_quote("the pod has no cgroup: \"freeze\" is not possible");
    output_event("warn", "\"message\":%s", words);
    output_event("prepared", NULL);
    output_event("captured", "\"pause_ms\":%.1f", 12.5);
    output_event("progress", "\"bytes\":%lu,\"of\":%lu", 1048576ul, 2097152ul);
    output_event("progress", "\"bytes\":%lu,\"of\":%lu", 1048577ul, 2097152ul); /* too soon: not written */
    output_event("done", "\"digest\":\"%064x\",\"bytes\":%lu,\"bytes_new\":%lu,\"bytes_kept\":%lu,\"pause_ms\":%.1f,\"took_ms\":%.2f,"
                 "\"log_marks\":{\"stdout\":%d,\"stderr\":%d}", 255, 2097152ul, 4096ul, 65536ul, 12.5, 100.25, 17, 0);
    return 0;
}
"""


def script(folder: Path, text: str) -> Engine:
    """An engine of a few lines of shell, to say on the wire what a broken one would."""
    path = folder / "engine"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return Engine(path)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    (folder / "writer.c").write_text(WRITER)
    sources = [str(ROOT / "native" / "base" / name) for name in ("base.c", "err.c", "output.c", "options.c")]
    command = ["gcc", "-std=gnu17", "-D_GNU_SOURCE", f"-I{ROOT / 'native'}", "-o", str(folder / "writer"), str(folder / "writer.c")]
    extra = sorted(str(p) for p in (ROOT / "native" / "base").glob("*.c") if str(p) not in sources)
    subprocess.run([*command, *sources, *extra], check=True, timeout=60)
    return folder / "writer"


def test_the_c_side_writes_the_golden_lines(writer: Path) -> None:
    events = subprocess.run([writer], capture_output=True, check=True, timeout=10).stdout
    failures = subprocess.run([writer, "failures"], capture_output=True, check=True, timeout=10).stdout
    assert events.decode().splitlines() == (GOLDEN / "engine_events.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in failures.splitlines()]
    assert written == [json.loads(line) for line in (GOLDEN / "engine_failures.jsonl").read_text().splitlines()]


def test_the_python_side_reads_the_golden_lines(tmp_path: Path) -> None:
    engine = script(tmp_path, f"cat {GOLDEN}/engine_events.jsonl")
    with engine.start("snapshot") as act:
        assert act.until("prepared", timeout_s=5) == {"event": "prepared"}
        assert act.until("captured", timeout_s=5)["pause_ms"] == 12.5
        done = act.done(5)
    assert done["log_marks"] == {"stdout": 17, "stderr": 0}
    assert act.warnings == ['the pod has no cgroup: "freeze" is not possible']
    assert act.last_progress is not None
    assert act.last_progress["bytes"] == 1 << 20


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_failure_is_raised_with_its_code(tmp_path: Path, number: int) -> None:
    line = (GOLDEN / "engine_failures.jsonl").read_text().splitlines()[number]
    (tmp_path / "line").write_text(line + "\n")
    golden = json.loads(line)
    with pytest.raises(EngineError) as caught:
        script(tmp_path, f"cat {tmp_path}/line; exit {golden['exit']}").call("run")
    assert caught.value.code is CODES[golden["code"]]
    assert caught.value.code.exit_status == golden["exit"]
    assert caught.value.message == golden["message"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("echo not json", "PROTOCOL", "no JSON"),
        ("echo '[1]'", "PROTOCOL", "no event"),
        ("echo '{\"event\":7}'", "PROTOCOL", "no event"),
        ("exit 0", "BUG", "ended with 0"),
        ("echo oops >&2; exit 74", "IO", "oops"),
        ("kill -9 $$", "BUG", "signal 9"),
        ("exit 3", "BUG", "ended with 3"),
        ('echo \'{"event":"failed","code":"OK"}\'', "PROTOCOL", "code OK"),
        ('echo \'{"event":"failed","code":"NEW","exit":73,"message":"m"}\'', "NO_SPACE", "m"),
    ],
)
def test_an_engine_that_breaks_the_contract_is_a_clear_error(tmp_path: Path, text: str, code: str, words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        script(tmp_path, text).call("run", timeout_s=5)
    assert caught.value.code.name == code


def test_done_before_a_barrier_is_an_error(tmp_path: Path) -> None:
    with script(tmp_path, "echo '{\"event\":\"done\"}'").start("snapshot") as act, pytest.raises(EngineError, match="before prepared"):
        act.until("prepared", timeout_s=5)


def test_a_silent_engine_is_given_up_at_the_deadline_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("native.engine.GRACE_S", 0.2)
    started = time.monotonic()
    with pytest.raises(EngineError) as caught, script(tmp_path, "exec sleep 60").start("run") as act:
        act.done(0.2)
    assert caught.value.code.name == "BUSY"
    assert time.monotonic() - started < 5
    assert not Path(f"/proc/{act.pid}").exists()


def test_a_child_that_holds_the_output_does_not_hold_the_reader(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    engine = script(tmp_path, f"sleep 30 & echo $! >{pid_file}; echo '{{\"event\":\"done\",\"x\":1}}'")
    started = time.monotonic()
    assert engine.call("run", timeout_s=5)["x"] == 1
    assert time.monotonic() - started < 3
    child = int(pid_file.read_text())
    assert Path(f"/proc/{child}").exists(), "what the engine leaves behind is not ours to kill"
    os.kill(child, 9)


def test_words_at_a_barrier_reach_the_engine_and_leaving_means_end_of_file(tmp_path: Path) -> None:
    said = tmp_path / "said"
    engine = script(tmp_path, f"echo '{{\"event\":\"prepared\"}}'; cat >{said}; echo end >>{said}")
    with engine.start("snapshot") as act:
        act.until("prepared", timeout_s=5)
        act.say("stop")
    assert said.read_text() == "stop\nend\n"


def test_a_line_of_any_length_is_put_together(tmp_path: Path) -> None:
    (tmp_path / "line").write_text(json.dumps({"event": "done", "text": "x" * 1_000_000}) + "\n")
    assert len(script(tmp_path, f"cat {tmp_path}/line").call("inspect")["text"]) == 1_000_000


def test_the_table_of_codes_is_read_whole() -> None:
    lines = [line for line in (ROOT / "native" / "codes.def").read_text().splitlines() if line.startswith("CODE(")]
    assert len(CODES) == len(lines)
    assert [code.name for code in CODES.values() if code.retry] == ["BUSY"]
    assert by_exit(73).name == "NO_SPACE"
    assert by_exit(1).name == "BUG"


def test_a_doubled_code_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        read_codes('CODE(A, 1, 1, 0, "a")\nCODE(B, 1, 1, 0, "b")\n')


def test_a_missing_engine_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLUSTEROS_NATIVE", str(tmp_path / "none"))
    with pytest.raises(EngineError, match="make -C native"):
        find_binary()


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(EngineError):
        parse_event(b'{"event":' + b"[" * 200_000)


def test_a_data_verb_that_fails_raises_what_it_wrote_on_stderr(tmp_path: Path) -> None:
    line = json.dumps({"event": "failed", "code": "NO_INPUT", "exit": 66, "message": "no store"})
    engine = script(tmp_path, f"echo data; echo '{line}' >&2; exit 66")
    with pytest.raises(EngineError, match="no store") as caught, engine.reading("store-missing") as stream:
        assert stream.read() == b"data\n"
    assert caught.value.code.name == "NO_INPUT"


def test_a_compiler_is_there_for_the_golden_lines() -> None:
    assert shutil.which("gcc")
