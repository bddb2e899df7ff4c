"""What one user's generations may take: further ones are refused until some are gone. What the system takes for its own sake
(before a rollback, a move, a hold) is never refused: it saves work.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Sum

from checkpoints.models import Generation
from clusteros.core.problems import Problem
from clusteros.environment import environment
from clusteros.words import size_words
from jobs.models import Job

SYSTEM_CAUSES = ("safety", "migration")
UNBOUNDED_CAUSES = (*SYSTEM_CAUSES, "hold")
HELD = ("storing", "complete")


def bytes_of(owner: Any) -> int:
    """What the kept generations of all jobs of `owner` took when they were written, once, however many replicas there are."""
    kept = Generation.objects.filter(job__owner=owner, state__in=HELD)
    return int(kept.aggregate(n=Sum("bytes_new"))["n"] or 0)


def refuse_over_quota(job: Job, cause: str) -> None:
    """Problem NO_SPACE when the owner has had his share."""
    allowed = environment().store_quota_bytes
    if not allowed or cause in UNBOUNDED_CAUSES:
        return
    taken = bytes_of(job.owner)
    if taken >= allowed:
        words = f"the generations of {job.owner} take {size_words(taken)}, {size_words(allowed)} are allowed"
        raise Problem("NO_SPACE", f"{words}: delete some, or let their jobs keep fewer")
