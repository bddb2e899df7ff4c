"""A live console: the real ASGI application on loopback, Debian's Chromium in front of it, the cluster at the message border
behind it (tests/control/cluster.py). Screenshots are kept below var/screenshots (not in git)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

from clusteros.accounts.services import ensure_user
from tests.control.cluster import Nodes

# Playwright's synchronous interface keeps an event loop on the thread of the tests; their ORM calls are synchronous all the same.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

REPOSITORY = Path(__file__).resolve().parents[2]
SHOTS = REPOSITORY / "var" / "screenshots"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}
START_S = 20.0
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    return {"executable_path": CHROMIUM, "args": FLAGS}


@pytest.fixture(scope="session")
def console_url(django_db_setup: None) -> Iterator[str]:
    """Address of the real application, served from a thread of this process on the test database."""
    from clusteros.asgi import application

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        assert time.monotonic() < deadline, "the console did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """How slow a password is to check is not what is tested here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def demo(transactional_db: None) -> User:
    return ensure_user("demo", password="demo-password")


@pytest.fixture
def admin(transactional_db: None) -> User:
    return ensure_user("admin", password="admin-password", admin=True)


@pytest.fixture
def nodes(transactional_db: None) -> Nodes:
    made = Nodes()
    made.beat()
    return made


@dataclass
class Visitor:
    """Somebody at the console. Everything that the browser complains about is kept: a page must not make it complain."""

    page: Page
    url: str
    complaints: list[str]

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def live(self, path: str) -> Page:
        """Open a page and wait until its WebSocket is up."""
        self.open(path)
        self.page.locator(".live[data-state=on]").wait_for(state="attached")
        return self.page

    def shot(self, name: str) -> None:
        width = (self.page.viewport_size or WIDE)["width"]
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}-{width}.png", full_page=True)

    def assert_nothing_sticks_out(self) -> None:
        expect(self.page.get_by_text("asking the nodes")).to_have_count(0)
        wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"the page is {wide} px wider than the screen"


@pytest.fixture
def visit(console_url: str, context: BrowserContext) -> Iterator[Callable[..., Visitor]]:
    """visit(user, size): a logged-in visitor (None: nobody)."""
    visitors: list[Visitor] = []

    def make(user: User | None, size: dict[str, int] = WIDE) -> Visitor:
        if user is not None:
            context.add_cookies([_session(user, console_url)])
        page = context.new_page()
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE_MS)
        visitor = Visitor(page, console_url, [])
        page.on("console", lambda message: _note(visitor, message))
        page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        visitors.append(visitor)
        return visitor

    yield make
    for visitor in visitors:
        assert visitor.complaints == [], visitor.page.url


def _note(visitor: Visitor, message: ConsoleMessage) -> None:
    expected = "Failed to load resource" in message.text or "Response Status Error Code" in message.text
    if message.type in ("error", "warning") and not expected:
        visitor.complaints.append(message.text)


def _session(user: User, url: str) -> Any:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}
