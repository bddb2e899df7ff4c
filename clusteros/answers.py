"""What goes over the wire, as both clients see it: the types of answers, refusals as ClusterError, pages, streams of events.

Types name what callers rely on; more keys may come. Pure: nothing is sent from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypedDict
from urllib.parse import quote

import httpx

from native.codes import CODES, Code

DOWNLOAD = httpx.Timeout(10.0, read=400.0)
"""A node makes a core before its first byte goes out."""
KEPT = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2.0)
"""A connection that has waited this long is not used again: servers close idle ones (many after 5 s), and a request that meets
that is lost."""
TRIES = 4
AGAIN = (502, 503, 504)
"""Something on the way, not the cluster, refused."""
FINAL_STATES = frozenset({"completed", "failed", "cancelled"})

Json = dict[str, Any]


class JobSpec(TypedDict, total=False):
    """What POST /jobs takes; the server fills in what is missing."""

    name: str
    command: list[str]
    script: str
    pods: int
    ranks_per_pod: int
    cores_per_rank: int
    mem_bytes: int
    walltime_s: int
    env: dict[str, str]
    workdir: str
    interval_s: float
    keep: int
    keep_every: int
    keep_per: str
    files: list[dict[str, Any]]
    files_policy: str
    placement: str
    nodes: list[str]
    queue: str
    priority: int
    hold: bool


class Job(TypedDict, total=False):
    id: str
    number: int
    name: str
    owner: str
    state: str
    pods: int
    ranks_per_pod: int
    exit_status: int | None
    waiting_because: str
    checkpointable: bool | None
    obstacles: list[dict[str, Any]]
    copied_from: dict[str, Any] | None
    array: int | None
    array_index: int | None


class Generation(TypedDict, total=False):
    number: int
    parent: int | None
    epoch: int
    state: str
    pinned: bool
    pause_ms: float | None
    bytes: int
    bytes_new: int
    taken_at: str | None
    replicas: int
    reason: str


class ClusterError(Exception):
    """The cluster refused, or could not be reached; `code` is a row of the shared table."""

    def __init__(self, code: Code, detail: str, *, status: int = 0, problem: Json | None = None) -> None:
        super().__init__(detail or code.words)
        self.code = code
        self.status = status
        self.problem = problem or {}


class EventParser:
    """Server-sent events, fed line by line: `feed` gives an event when its last line came."""

    def __init__(self) -> None:
        self._data: list[str] = []
        self._id = ""

    def feed(self, line: str) -> Json | None:
        if line.startswith("data:"):
            self._data.append(line[5:].lstrip())
        elif line.startswith("id:"):
            self._id = line[3:].strip()
        elif not line and self._data:
            event = {"id": self._id} | json.loads("\n".join(self._data))
            self._data = []
            return event
        return None


def parse_events(lines: Iterator[str]) -> Iterator[Json]:
    """The `data` of each event, with the stream's id where the data names none."""
    parser = EventParser()
    for line in lines:
        event = parser.feed(line)
        if event is not None:
            yield event


def at(*parts: str | int) -> str:
    return "/".join(quote(str(part), safe="") for part in parts)


def page_of(answer: Any) -> tuple[list[Json], str | None]:
    if isinstance(answer, list):
        return answer, None
    return answer["items"], answer.get("next")


def parsed(response: httpx.Response) -> Any:
    if response.status_code == 204 or not response.content:
        return None
    try:
        return response.json()
    except ValueError as fault:
        raise ClusterError(CODES["PROTOCOL"], f"{response.url} did not answer in JSON: is this a ClusterOS server?") from fault


def refusal_of(response: httpx.Response) -> ClusterError:
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    code = CODES.get(str(problem.get("code", ""))) or _code_of_status(response.status_code)
    detail = problem.get("detail") or problem.get("title") or f"the server answered {response.status_code}"
    return ClusterError(code, detail if isinstance(detail, str) else json.dumps(detail), status=response.status_code, problem=problem)


def _code_of_status(status: int) -> Code:
    """For answers that did not come from the API itself (a proxy, another server)."""
    if status == 404:
        return CODES["NOT_FOUND"]
    if status in (502, 503, 504):
        return CODES["BUSY"]
    named = next((code for code in CODES.values() if code.http == status and code.name != "OK"), None)
    return named or CODES["PROTOCOL" if status < 500 else "BUG"]


def wait_before(attempt: int, response: httpx.Response | None) -> float:
    """Seconds until the next try: longer each time, or as the server says."""
    said = response.headers.get("Retry-After", "") if response is not None else ""
    return min(60.0, float(said)) if said.isdecimal() else 0.2 * 2.0**attempt


def is_worth_another(response: httpx.Response) -> bool:
    return response.status_code in AGAIN or response.status_code == 429
