"""Commands about generations: checkpoint, generations, rollback, pin, unpin, and deletion."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from clusteros.cli import completion, draw
from clusteros.cli.door import JobArgument, JsonFlag, YesFlag, about, ask, cluster, err, out, show, stop_with
from clusteros.client import Cluster, Generation
from clusteros.words import ms_words, size_words

WHERE = "Where pod 0, 1, … shall run; again for more."
LAST = "The generation; the last one if not given."
UNDER_WAY = frozenset({"taking", "storing"})
GenerationArgument = Annotated[
    int, typer.Argument(metavar="GENERATION", min=1, help="The generation's number.", autocompletion=completion.generations)
]


def checkpoint(
    job: JobArgument,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is complete.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Take a generation of a running job now."""
    about(job)
    with cluster() as door:
        taken = door.checkpoint(job)
        if wait:
            taken = _settled(door, job, taken["number"])
    show(taken, as_json, _draw_taken)
    if taken["state"] == "failed":
        raise stop_with("ABORTED", f"generation {taken['number']} failed: {taken.get('reason') or 'no reason was given'}; the job runs on")


def _settled(door: Cluster, job: str, number: int) -> Generation:
    with err.status(f"generation {number}: taking") as status:
        while True:
            seen = door.generation(job, number)
            if seen["state"] not in UNDER_WAY:
                return seen
            status.update(f"generation {number}: {seen['state']}")
            time.sleep(0.2)


def _draw_taken(taken: Generation) -> None:
    words = f"generation {taken['number']}: {taken['state']}"
    if taken["state"] == "complete":
        words += f", the job paused {ms_words(taken.get('pause_ms'))}, {size_words(taken.get('bytes'))}"
    out.print(words)


def generations(job: JobArgument, as_json: JsonFlag = False) -> None:
    """Draw the tree of a job's generations."""
    about(job)
    with cluster() as door:
        found = door.generations(job)
        if as_json:
            return show(found, True, out.print)
        seen, runs = door.job(job), door.runs(job)
    draw.draw_generations(found, _now(runs, found), seen["state"])


def _now(runs: list[Any], found: list[Generation]) -> int | None:
    """The generation from which the present has grown on: the newest of the present run, else where that came from."""
    run = max(runs, key=lambda each: each["epoch"], default=None)
    if run is None:
        return None
    own = [each["number"] for each in found if each["state"] == "complete" and each["epoch"] == run["epoch"]]
    return max(own, default=run["from_generation"])


def rollback(
    job: JobArgument,
    generation: Annotated[int | None, typer.Argument(metavar="[GENERATION]", min=1, help="The generation; the same as --to.")] = None,
    to: Annotated[int | None, typer.Option("--to", min=1, metavar="N", help=LAST, autocompletion=completion.generations)] = None,
    node: Annotated[list[str] | None, typer.Option("--node", metavar="NAME", help=WHERE, autocompletion=completion.nodes)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    safety: Annotated[bool, typer.Option("--safety/--no-safety", help="Keep the present as a generation first.")] = True,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring a job back to one of its generations; says first what is lost by it."""
    about(job)
    with cluster() as door:
        number = to or generation or _last_complete(door, job)
        if dry_run or not (yes or as_json):
            plan = door.rollback(job, number, placement=node, dry_run=True)
            show(plan, as_json, lambda made: _draw_plan(job, number, made))
            if dry_run:
                return
        ask(f"Roll job {job} back to generation {number}?", yes)
        answer = door.rollback(job, number, placement=node, safety=safety)
    show(answer, as_json, lambda _: out.print(f"job {job} goes back to generation {number}; watch it:  clusteros show {job}"))


def _draw_plan(job: str, number: int, plan: Any) -> None:
    out.print(f"[bold]Job {job} back to generation {number}[/bold]")
    draw.draw_plan(plan)


def _last_complete(door: Cluster, job: str) -> int:
    complete = [each["number"] for each in door.generations(job) if each["state"] == "complete"]
    if not complete:
        raise stop_with("CONFLICT", f"job {job} has no complete generation yet: clusteros checkpoint {job}")
    return max(complete)


def retention(
    job: JobArgument,
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="The last so many.")] = None,
    every: Annotated[int | None, typer.Option("--every", min=0, help="And those whose number is a multiple of it; 0: none.")] = None,
    per: Annotated[str | None, typer.Option("--per", metavar="hour|day|none", help="And the first of every hour or day.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Keep other generations of a job from now on; says first what that removes."""
    wanted = {"keep": keep, "keep_every": every, "keep_per": "" if per == "none" else per}
    changes = {name: value for name, value in wanted.items() if value is not None}
    with cluster() as door:
        answer = door.retention(job, {**changes, "dry_run": True})
        if changes and not dry_run:
            if answer["removes"]:
                ask(f"Keep {answer['words']}? Generations {_numbers(answer['removes'])} go for good.", yes)
            answer = door.retention(job, changes)
    show(answer, as_json, _draw_retention)


def _numbers(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _draw_retention(said: Any) -> None:
    gone = f"; {'would remove' if said['dry_run'] else 'removed'}: {_numbers(said['removes'])}" if said["removes"] else ""
    out.print(f"kept: {said['words']}{gone}")


def pin(job: JobArgument, generation: GenerationArgument, as_json: JsonFlag = False) -> None:
    """Keep a generation whatever the policy says."""
    _pin(job, generation, True, as_json)


def unpin(job: JobArgument, generation: GenerationArgument, as_json: JsonFlag = False) -> None:
    """Leave a generation to the policy again."""
    _pin(job, generation, False, as_json)


def _pin(job: str, generation: int, pinned: bool, as_json: bool) -> None:
    about(job)
    with cluster() as door:
        answer = door.pin(job, generation, pinned)
    show(answer, as_json, lambda _: out.print(f"generation {generation} of job {job}: {'pinned' if pinned else 'not pinned'}"))


def delete(job: JobArgument, generation: GenerationArgument, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Delete a generation; it cannot be brought back."""
    about(job)
    ask(f"Delete generation {generation} of job {job} for good?", yes)
    with cluster() as door:
        answer = door.delete_generation(job, generation)
    show(answer, as_json, lambda _: out.print(f"generation {generation} of job {job}: deleted"))
