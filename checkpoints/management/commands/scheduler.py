"""`manage.py scheduler`: the clock. Any number may run; one leads, the others wait for its end."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from checkpoints.clock.leader import lead
from checkpoints.clock.passes import Clock, tick


class Command(BaseCommand):
    help = "Run the scheduler (one leads, more may stand by)."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        clock = Clock(leader_since=timezone.now())

        def started() -> None:
            clock.__init__(leader_since=timezone.now())  # type: ignore[misc]

        lead(lambda: tick(clock), stop.is_set, started)
