"""Could these machines bring a generation back? Asked of each node for its pods, with the image's manifest, which another node may
hold: processor features, the kernel, and files outside the images that have changed since. Nothing is changed by asking, and who
does not answer is named, not waited for: before anything is ended the nodes look again (prefetching with `fit`).
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import httpx

from checkpoints.models import Generation, Snapshot
from checkpoints.services.replicas import holders_of
from checkpoints.services.stores import ask_store
from clusteros.words import count_words
from nodes.models import Node

TIMEOUT = httpx.Timeout(4.0, connect=1.0)
TOGETHER = 8
MOST_PODS = 64
MOST_NAMED = 8
GROWN = "has grown"
"""The engine's word for a file that can be cut back (native/restore/outside_check.c)."""


@dataclass(frozen=True)
class Question:
    """A pod's image, who holds it, and who shall bring it back: names with the addresses and passes to ask them by."""

    pod: int
    digest: str
    target: Node
    holders: list[Node]


@dataclass(frozen=True)
class Answer:
    pod: int
    node: str
    fits: bool | None
    """None: it did not answer."""
    words: str = ""
    changed: list[str] = field(default_factory=list)


def check_fit(generation: Generation, placement: dict[int, str], files_policy: str) -> list[dict[str, Any]]:
    """[{name, ok, words}]: `machine` and `files`. Of a very wide job the first pods are asked about."""
    questions = _questions(generation, placement)
    with ThreadPoolExecutor(TOGETHER) as pool:
        answers = list(pool.map(_ask, questions))
    return [*_machines(answers), *_files(answers, files_policy)]


def _questions(generation: Generation, placement: dict[int, str]) -> list[Question]:
    nodes = {node.name: node for node in Node.objects.filter(name__in=set(placement.values()))}
    rows = list(Snapshot.objects.filter(generation=generation, pod__in=list(placement)).order_by("pod")[:MOST_PODS])
    held = holders_of(row.digest for row in rows)
    return [Question(row.pod, row.digest, nodes[placement[row.pod]], held[row.digest]) for row in rows]


def _ask(question: Question) -> Answer:
    target = question.target
    try:
        manifest = _manifest(question)
        response = ask_store(target, "fit", method="POST", content=manifest, timeout=TIMEOUT)
        if response.status_code != 200:
            return Answer(question.pod, target.name, None, f"{target.name} answered {response.status_code}: {response.text[:200]}")
        said = response.json()
        return Answer(question.pod, target.name, bool(said["fits"]), str(said["words"]), [str(each) for each in said["changed"]])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as fault:
        return Answer(question.pod, target.name, None, f"{target.name} did not answer: {fault}")


def _manifest(question: Question) -> bytes:
    """From the node itself, where it holds the image, else from the first holder that gives it."""
    fault: Exception = ValueError("no node that is up holds the image")
    for node in sorted(question.holders, key=lambda each: each.name != question.target.name):
        try:
            response = ask_store(node, f"images/{question.digest}/manifest", timeout=TIMEOUT)
            response.raise_for_status()
        except httpx.HTTPError as failed:
            fault = failed
            continue
        with closing(response):
            return response.content
    raise fault


def _machines(answers: list[Answer]) -> list[dict[str, Any]]:
    """What stands against it, machine by machine; else one line that says that nothing does."""
    against = sorted({(each.node, each.words) for each in answers if each.fits is False})
    silent = sorted({each.words for each in answers if each.fits is None})
    said = [{"name": "machine", "ok": False, "words": f"{node}: {words}"} for node, words in against]
    said += [_unknown(words) for words in silent[:MOST_NAMED]]
    names = sorted({each.node for each in answers if each.fits})
    if names and not against:
        words = f"{_named(names)} can run it: kernel, and every feature of the processor that it may use"
        said.append({"name": "machine", "ok": True, "words": words})
    return said


def _unknown(words: str) -> dict[str, Any]:
    return {"name": "machine", "ok": True, "known": False, "words": f"{words}; it is asked again before anything is ended"}


def _files(answers: list[Answer], files_policy: str) -> list[dict[str, Any]]:
    """Files that a process had open and no image carries. Changed ones stop a job whose files_policy is refuse."""
    taken_back = "; it is cut back, its tail kept beside it" if files_policy == "restore" else ""
    words_of = [(each.pod, words) for each in answers for words in each.changed]
    changed = list(dict.fromkeys(f"pod {pod}: {words}{taken_back if GROWN in words else ''}" for pod, words in words_of))
    refused = files_policy == "refuse"
    said = [{"name": "files", "ok": not refused, "known": refused, "words": words} for words in changed[:MOST_NAMED]]
    if len(changed) > MOST_NAMED:
        more = count_words(len(changed) - MOST_NAMED, "more file", "more files")
        said.append({"name": "files", "ok": not refused, "known": refused, "words": f"and {more}"})
    if not changed and answers and all(each.fits for each in answers):
        said.append({"name": "files", "ok": True, "words": "every open file outside the images is as it was"})
    return said


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:MOST_NAMED]) + (f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else "")
