"""The command line against the live API: the real application on loopback, the cluster at the message border."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from typer.testing import CliRunner

from clusteros.accounts.services import make_token
from clusteros.cli.main import app
from tests.console.conftest import admin, console_url, demo, nodes, quick_passwords

__all__ = ["admin", "console_url", "demo", "nodes", "quick_passwords"]


@pytest.fixture(autouse=True)
def no_login_of_the_tester(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CLUSTEROS_URL", "CLUSTEROS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLUSTEROS_LOGIN", str(tmp_path / "login.json"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture
def run_as(console_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[..., Any]]:
    """run_as(user)("ps", "--json") is what the command answered: exit_code, stdout, stderr."""

    def make(user: User, **more: Any) -> Callable[..., Any]:
        scopes = ["read", "write", "admin"] if user.is_staff else ["read", "write"]
        _, token = make_token(user, "test", scopes=scopes, days=more.get("days", 1))

        def run(*words: str, input: str | None = None) -> Any:
            environment = {"CLUSTEROS_URL": console_url, "CLUSTEROS_TOKEN": token}
            return CliRunner().invoke(app, list(words), env=environment, input=input)

        return run

    return make
