"""From the event to the screen: measured in the browser, against the instant at which the event was given to the control side."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.contrib.auth.models import User
from playwright.sync_api import Page

from tests.console.conftest import Visitor
from tests.console.story import Story
from tests.control.cluster import Nodes

Visit = Callable[..., Visitor]
LIMIT_MS = 300
TRIES = 5
PATIENCE_S = 20
WATCH = """([selector, text]) => { window.seenAt = null; const look = () => {
    const place = document.querySelector(selector);
    if (window.seenAt === null && place && place.textContent.includes(text)) window.seenAt = performance.timeOrigin + performance.now(); };
  look(); new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true}); }"""


def took_ms(page: Page, selector: str, text: str, event: Callable[[], object]) -> float:
    """How long after the event the text stood in the place. A wait at least as long as the gap between two refreshes goes before."""
    page.wait_for_timeout(400)
    page.evaluate(WATCH, [selector, text])
    begun = time.time()
    event()
    seen_at = page.evaluate("window.seenAt")  # (the policy forbids wait_for_function's eval)
    while seen_at is None:
        assert time.time() - begun < PATIENCE_S, f"{text} did not come"
        page.wait_for_timeout(20)
        seen_at = page.evaluate("window.seenAt")
    return float(seen_at) - begun * 1000


def test_what_happens_is_on_the_screen_within_300_ms(visit: Visit, demo: User, nodes: Nodes) -> None:
    """The quickest of some tries: whatever else this machine does is not what is measured."""
    story = Story(nodes, demo)
    story.start()
    page = visit(demo).live(f"/jobs/{story.job.number}/")
    lines = [took_ms(page, "#log", f"line {k}!", lambda k=k: story.print(f"line {k}!\n")) for k in range(TRIES)]  # type: ignore[misc]
    moves = []
    for k in range(1, TRIES + 1):
        pod = story.job.current_run.pods.select_related("run", "node").get(index=0)
        state = "suspended" if k % 2 else "running"
        moves.append(took_ms(page, "#pods tbody tr", state, lambda pod=pod, state=state: nodes.pod_report(pod, state)))  # type: ignore[misc]
    print(f"a line of output: {[round(each) for each in lines]} ms; a pod's state: {[round(each) for each in moves]} ms")
    assert min(lines) <= LIMIT_MS
    assert min(moves) <= LIMIT_MS
