"""A lab gives the command line its login, and takes nobody's login for a real cluster away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusteros.lab import lifecycle
from clusteros.lab.layout import Lab
from clusteros.login import Login, login_path, read_login, write_login


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path / "lab")
    made.front.mkdir(parents=True)
    made.login_file.write_text(json.dumps({"demo": {"token": "of the lab"}}))
    monkeypatch.setattr(lifecycle, "url_of", lambda lab: "http://127.0.0.1:8080")
    return made


@pytest.mark.parametrize("before", ["", "http://127.0.0.1:9090", "http://localhost", "broken"])
def test_a_lab_logs_in(lab: Lab, before: str) -> None:
    if before == "broken":
        login_path().write_text("{")
    elif before:
        write_login(Login(before, "of another lab"))
    lifecycle.write_login(lab, pytest.fail)
    assert read_login() == Login("http://127.0.0.1:8080", "of the lab")


def test_a_login_for_a_cluster_elsewhere_stays(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    write_login(Login("https://cluster.lab", "of years"))
    said: list[str] = []
    lifecycle.write_login(lab, said.append)
    assert read_login() == Login("https://cluster.lab", "of years")
    assert f"export CLUSTEROS_LOGIN={lab.own_login_file}" in said[0]
    monkeypatch.setenv("CLUSTEROS_LOGIN", str(lab.own_login_file))
    assert read_login() == Login("http://127.0.0.1:8080", "of the lab")
