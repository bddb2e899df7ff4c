"""`manage.py scheduler`: the clock. Any number may run; one leads, the others wait for its end."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from checkpoints.clock.leader import lead
from checkpoints.clock.passes import Clock, tick


class Command(BaseCommand):
    help = "Run the scheduler (one leads, more may stand by)."

    def handle(self, *args: Any, **options: Any) -> None:
        told: list[int] = []  # no Event: a handler may have interrupted its own lock
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.append(number))
        clock = Clock(leader_since=timezone.now())

        def started() -> None:
            clock.__init__(leader_since=timezone.now())  # type: ignore[misc]

        lead(lambda: tick(clock), lambda: bool(told), started)
