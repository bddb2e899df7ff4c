"""Plans: where a job would come back, and what would be lost. Reads only; the same answers serve the dry run of a
rollback and the rollback itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from checkpoints.models import Generation, Snapshot
from checkpoints.services.fitting import check_fit
from checkpoints.services.replicas import holders_of
from checkpoints.services.shared import in_shared
from clusteros.core.problems import Problem, conflict, invalid
from clusteros.words import count_words
from jobs.models import Job, Run
from jobs.services.ending import live_pods
from jobs.services.logs import lines_after
from jobs.services.placing import request_of, room_of_nodes
from jobs.services.submit import nodes_by_pod
from nodes.models import Node
from nodes.placement import Refusal, place, place_preferring_cores

COUNTED_BYTES = 4 << 20
"""Lines are counted in output up to this size; beyond it bytes say enough."""
MOST_NAMED = 8


@dataclass
class Foresight:
    """What would be, for a generation: `placement`: {pod: node}; `checks`: [{name, ok, words}, and known=False where a no is not sure]."""

    generation: int
    placement: dict[int, str] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def possible(self) -> bool:
        return all(check["ok"] for check in self.checks)

    def ask_nodes(self, generation: Generation, files_policy: str) -> None:
        """Add what the nodes themselves say: can they run it, and which files have changed."""
        self.checks += check_fit(generation, self.placement, files_policy)

    def as_json(self) -> dict[str, Any]:
        placement = {str(pod): node for pod, node in self.placement.items()}
        return {"generation": self.generation, "placement": placement, "checks": self.checks, "possible": self.possible}


@dataclass
class Plan(Foresight):
    """`lost_*`: what a rollback undoes; `safety`: the present is kept first."""

    lost_s: float = 0.0
    lost_log_bytes: int = 0
    lost_lines: int | None = 0
    safety: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            **super().as_json(), "lost_s": round(self.lost_s, 1), "lost_log_bytes": self.lost_log_bytes,
            "lost_lines": self.lost_lines, "safety_generation": self.safety, "words": self.words(),
        }  # fmt: skip

    def words(self) -> str:
        lost = f"{self.lost_s:.0f} seconds of work and {self.lost_log_bytes} bytes of output after the generation"
        kept = "; they are kept as a generation first" if self.safety else ""
        return f"generation {self.generation} comes back; what is undone: {lost}{kept}"


def check_usable(generation: Generation) -> None:
    """Problem CONFLICT when nobody can go back to this generation."""
    if generation.state != "complete":
        why = f": {generation.reason}" if generation.reason else ""
        raise conflict(f"generation {generation.number} is {generation.state}, not complete{why}")


def wanted_nodes(placement: Any, pods: int) -> dict[str, str]:
    """{pod: node} of what a user gives: a list of nodes (round and round), or an object of pod and node."""
    if not placement:
        return {}
    if isinstance(placement, list) and all(isinstance(name, str) for name in placement):
        wanted = nodes_by_pod(placement, pods)
    elif isinstance(placement, dict) and all(isinstance(name, str) for name in placement.values()):
        wanted = {str(pod): name for pod, name in placement.items()}
    else:
        raise invalid("placement", "a list of nodes, or an object of pod and node")
    if not all(pod.isdecimal() and int(pod) < pods for pod in wanted):
        raise invalid("placement", f"the job has pods 0 to {pods - 1}")
    unknown = sorted(set(wanted.values()) - set(Node.objects.values_list("name", flat=True)))
    if unknown:
        raise invalid("placement", f"there is no node {unknown[0]!r}")
    return wanted


def choose_nodes(job: Job, wanted: dict[str, str]) -> dict[int, str] | Refusal:
    """Where the job's pods would come back: beside what else runs, its own pods counted as gone. What ran before may share
    cores rather than be lost; a copy that never ran waits for cores of its own, as any new job does."""
    room, request = room_of_nodes(without_job=job), request_of(job, wanted)
    return place_preferring_cores(room, request) if job.epoch else place(room, request)


def plan_resume(job: Job, generation: Generation, placement: Any = None) -> Plan:
    """What a rollback would do. Problem when it is refused at once; `checks` name what stands in the way."""
    check_usable(generation)
    answer = choose_nodes(job, wanted_nodes(placement, job.pods))
    if isinstance(answer, Refusal):
        raise Problem("NO_ROOM", answer.words)
    run: Run | None = job.current_run
    plan = Plan(generation.number, answer)
    plan.checks = [check_images(generation), _check_nodes(answer)]
    if run is not None:
        plan.lost_s = _lost_s(run, generation)
        plan.lost_log_bytes = _lost_log_bytes(run, generation)
        plan.lost_lines = _lost_lines(job, generation) if plan.lost_log_bytes <= COUNTED_BYTES else None
        plan.safety = is_alive(job, run) and job.checkpointable is not False
        plan.checks.append(_check_safety(job, run))
    return plan


def is_alive(job: Job, run: Run) -> bool:
    """All pods of the newest run are there: it can be captured before it is ended."""
    return job.state in ("running", "suspended") and run.state == "running" and len(live_pods(run)) == job.pods


def _lost_s(run: Run, generation: Generation) -> float:
    end = run.ended_at or timezone.now()
    ran = run.base_s + (end - (run.started_at or end)).total_seconds()
    return max(0.0, ran - generation.ran_s)


def _lost_log_bytes(run: Run, generation: Generation) -> int:
    marks = {s.pod: s.log_marks for s in generation.snapshots.all()}  # type: ignore[attr-defined]
    lost = 0
    for pod in run.pods.all():  # type: ignore[attr-defined]
        mark = marks.get(pod.index, {})
        lost += max(0, pod.stdout_bytes - int(mark.get("stdout") or 0))
        lost += max(0, pod.stderr_bytes - int(mark.get("stderr") or 0))
    return lost


def _lost_lines(job: Job, generation: Generation) -> int:
    return lines_after(job, {str(s.pod): s.log_marks for s in generation.snapshots.all()})  # type: ignore[attr-defined]


def check_images(generation: Generation) -> dict[str, Any]:
    digests = digests_of(generation)
    held = holders_of(digests.values())
    shared = in_shared(digests.values())
    missing = [pod for pod, digest in sorted(digests.items()) if not held[digest] and digest not in shared]
    words = ", ".join(f"no node that is up holds the image of pod {pod}" for pod in missing[:MOST_NAMED])
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    return {"name": "images", "ok": not missing, "words": words + more or _where(digests, held)}


def _where(digests: dict[int, str], held: dict[str, list[Node]]) -> str:
    alone = sum(not held[digest] for digest in digests.values())
    if not alone:
        return "every image is on a node that is up"
    words = f"{count_words(alone, 'image is', 'images are')} in a shared directory alone"
    return words if alone == len(digests) else f"{words}, the rest on nodes"


def _check_nodes(placement: dict[int, str]) -> dict[str, Any]:
    names = sorted(set(placement.values()))
    return {"name": "nodes", "ok": True, "words": f"there is room on {', '.join(names)}"}


def _check_safety(job: Job, run: Run) -> dict[str, Any]:
    if not is_alive(job, run):
        return {"name": "safety", "ok": True, "words": "the job does not run: there is nothing to keep first"}
    if job.checkpointable is False:
        return {"name": "safety", "ok": True, "words": "the job cannot be captured now: its present state will be lost"}
    return {"name": "safety", "ok": True, "words": "the present state is kept as a generation first"}


def digests_of(generation: Generation) -> dict[int, str]:
    return dict(Snapshot.objects.filter(generation=generation).values_list("pod", "digest"))
