"""The verbs that a job's page offers: in which states each makes sense, its words, and the service that does it.
Which moves are allowed is the services' business; this only chooses the buttons that are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from checkpoints import services as checkpoints
from clusteros.core.problems import not_found
from jobs import services as jobs
from jobs.models import Job


@dataclass(frozen=True)
class Verb:
    slug: str
    label: str
    title: str
    shown_in: tuple[str, ...]
    do: Callable[..., Any]
    said: str


SUSPEND = "Freeze its processes where they are; they keep their memory"
HOLD = "Keep it from running; a running job is kept as a generation first"
VERBS = (
    Verb("suspend", "Suspend", SUSPEND, ("running",), jobs.suspend_job, "is being frozen"),
    Verb("resume", "Resume", "Let it run on", ("suspended",), jobs.thaw_job, "runs on"),
    Verb("hold", "Hold", HOLD, ("queued", "running"), checkpoints.hold_job, "is being held"),
    Verb("release", "Release", "Let it start again, from where it was held", ("held",), jobs.release_job, "may start"),
)
HIDDEN = (Verb("cancel", "Cancel", "End it for good", (), jobs.cancel_job, "is ended"),)


def offered(job: Job) -> list[Verb]:
    return [verb for verb in VERBS if job.state in verb.shown_in]


def verb_named(slug: str) -> Verb:
    found = next((verb for verb in (*VERBS, *HIDDEN) if verb.slug == slug), None)
    if found is None:
        raise not_found(f"verb {slug}")
    return found
