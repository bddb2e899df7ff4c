"""Joining: what is shown to the front end, what is kept, what is said when it fails."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nodes.agent.__main__ import main
from nodes.agent.config import load_config

GOOD = {"name": "n1", "secret": "from the front end", "redis_url": "redis://front:6379/0", "heartbeat_s": 0.5}


class Front(ThreadingHTTPServer):
    """Answers one thing to every join, and remembers what it was shown."""

    status, answer = 200, GOOD
    shown: dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    server: Front

    def do_POST(self) -> None:
        self.server.shown = {"path": self.path, **json.loads(self.rfile.read(int(self.headers["Content-Length"])))}
        body = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def front() -> Iterator[Front]:
    server = Front(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def join(front: Front, state: Path, *more: str) -> int:
    url = f"http://127.0.0.1:{front.server_address[1]}"
    return main(["join", url, "--token", "T", "--state", str(state), "--name", "n1", "--cores", "3", "--mem-bytes", "12345678", *more])


def test_a_join_registers_and_keeps_the_secret_for_its_owner_alone(front: Front, tmp_path: Path) -> None:
    assert join(front, tmp_path / "s", "--address", "10.1.2.3", "--store-port", "7800") == 0
    assert front.shown["path"] == "/api/v1/nodes/join"
    assert {key: front.shown[key] for key in ("token", "name", "cores", "mem_bytes", "store_url")} == {
        "token": "T", "name": "n1", "cores": 3, "mem_bytes": 12345678, "store_url": "http://10.1.2.3:7800",
    }  # fmt: skip
    node = load_config(tmp_path / "s")
    assert (node.secret, node.heartbeat_s, node.barrier_url) == ("from the front end", 0.5, "redis://front:6379/0")
    assert stat.S_IMODE((tmp_path / "s" / "node.json").stat().st_mode) == 0o600


def test_the_address_is_the_one_with_which_the_front_end_is_reached(front: Front, tmp_path: Path) -> None:
    assert join(front, tmp_path / "s") == 0
    assert front.shown["address"] == "127.0.0.1"


def test_joining_again_gives_the_node_its_new_secret(front: Front, tmp_path: Path) -> None:
    assert join(front, tmp_path / "s") == 0
    front.answer = GOOD | {"secret": "another"}
    assert join(front, tmp_path / "s") == 0
    assert load_config(tmp_path / "s").secret == "another"


def test_a_wrong_token_is_said_in_the_front_ends_words(front: Front, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    front.status, front.answer = 401, {"detail": "this join token is not known here"}
    assert join(front, tmp_path / "s") == 1
    assert "this join token is not known here" in capsys.readouterr().err
    assert not (tmp_path / "s" / "node.json").exists()


@pytest.mark.parametrize("answer", [{}, {"name": "n1"}, []])
def test_an_answer_that_is_none_writes_nothing(front: Front, tmp_path: Path, answer: Any) -> None:
    front.answer = answer
    assert join(front, tmp_path / "s") == 1
    assert not (tmp_path / "s" / "node.json").exists()


def test_a_front_end_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["join", "http://127.0.0.1:9", "--token", "T", "--state", str(tmp_path / "s"), "--name", "n1"]) == 1
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def test_a_name_that_is_none_is_refused_here(front: Front, tmp_path: Path) -> None:
    assert main(["join", "http://127.0.0.1:9", "--token", "T", "--state", str(tmp_path / "s"), "--name", "../x"]) == 1


def test_show_tells_what_node_this_is(front: Front, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    join(front, tmp_path / "s")
    capsys.readouterr()
    assert main(["show", "--state", str(tmp_path / "s")]) == 0
    assert "node n1" in capsys.readouterr().out
    assert main(["show", "--state", str(tmp_path / "none")]) == 1


def test_joining_again_keeps_what_was_set_by_hand(front: Front, tmp_path: Path) -> None:
    assert join(front, tmp_path / "s", "--address", "10.1.2.3") == 0
    path = tmp_path / "s" / "node.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "replication_bytes_per_s": 1000, "scrub_bytes_per_s": 0}))
    assert join(front, tmp_path / "s", "--address", "10.1.2.4") == 0
    found = load_config(tmp_path / "s")
    assert (found.address, found.replication_bytes_per_s, found.scrub_bytes_per_s) == ("10.1.2.4", 1000, 0)
    path.write_text("{ damaged")
    assert join(front, tmp_path / "s", "--address", "10.1.2.5") == 0
