"""`manage.py import_generation FILE`: after `clusteros node import FILE` on a node: make a held job of an exported generation."""

from __future__ import annotations

import json
import tarfile
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checkpoints.models import Generation
from checkpoints.services.importing import import_generation
from clusteros.core.problems import Problem

CERTIFICATE_MAX_BYTES = 64 << 20
POLL_S = 0.5


class Command(BaseCommand):
    help = "Make a job of a generation that this cluster exported; its images were put on a node by `clusteros node import` before."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="made by `clusteros export`")
        parser.add_argument("--wait", type=float, default=60.0, metavar="S", help="for the nodes to show the images (60)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            generation = import_generation(_certificate(options["file"]), acting_user="front end")
        except Problem as problem:
            raise CommandError(problem.detail) from problem
        number = generation.job.number
        self.stderr.write(f"job {number} is made, and held; its images are looked for on the nodes")
        if not _wait(generation, options["wait"]):
            words = f"no node shows its images yet: on a node  clusteros node import {options['file']}  (job {number} waits for them)"
            raise CommandError(words)
        self.stdout.write(f"generation 1 of job {number} is complete; bring it back:  clusteros release {number}")


def _wait(generation: Generation, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        generation.refresh_from_db()
        if generation.state == "complete":
            return True
        time.sleep(POLL_S)
    return False


def _certificate(path: str) -> Any:
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and member.name.endswith("/certificate.json") and member.size <= CERTIFICATE_MAX_BYTES:
                    file = tar.extractfile(member)
                    return json.loads(file.read()) if file else None
    except (OSError, tarfile.TarError, ValueError, RecursionError) as fault:
        raise CommandError(f"{path} cannot be read as an exported generation: {fault}") from fault
    raise CommandError(f"{path} is not an exported generation: it has no certificate")
