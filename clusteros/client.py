"""The Python client: `Cluster` speaks REST /api/v1 and nothing else. The command line is made of it.

Answers are the server's JSON, typed below as far as callers rely on it (more keys may come). Every refusal raises
ClusterError with the code of native/codes.def. Reads that failed on the way are tried again; writes only when they
carry an idempotency key, so that nothing is done twice.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypedDict, cast
from urllib.parse import quote

import httpx

from clusteros.login import read_login
from native.codes import CODES, Code

TRIES = 4
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
    files: list[dict[str, Any]]
    files_policy: str
    queue: str
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


class Cluster:
    """One cluster, as one user. Closes its connections when used as a context manager."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if url is None or token is None:
            known = read_login()
            url, token = url or known.url, token or known.token
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url + "/api/v1/",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=timeout_s,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # the one way out

    def call(self, method: str, path: str, *, body: object = None, params: Mapping[str, Any] | None = None, key: str = "") -> Any:
        """One request; the parsed answer, None where there is no content; ClusterError otherwise."""
        headers = {"Idempotency-Key": key} if key else {}
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        tries = TRIES if method == "GET" or key else 1
        response = self._send(method, path, tries, json=body, params=wanted, headers=headers)
        if response.is_success:
            return _parsed(response)
        raise _refusal(response)

    def _send(self, method: str, path: str, tries: int, **parts: Any) -> httpx.Response:
        for attempt in range(1, tries + 1):
            last = attempt == tries
            try:
                response = self._http.request(method, path.lstrip("/"), **parts)
            except httpx.TransportError as fault:
                if last:
                    raise self._unreachable(fault) from fault
            else:
                if last or response.status_code not in (502, 503, 504):
                    return response
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def _unreachable(self, fault: Exception) -> ClusterError:
        return ClusterError(CODES["BUSY"], f"the cluster at {self.url} cannot be reached: {fault}")

    def pages(self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Iterator[Json]:
        """Every item of a list that comes in cursor pages, at most `limit` of them."""
        wanted = dict(params or {})
        left = limit
        while True:
            answer = self.call("GET", path, params=wanted)
            items, cursor = _page(answer)
            yield from items if left is None else items[:left]
            left = None if left is None else left - len(items)
            if not cursor or (left is not None and left <= 0):
                return
            wanted["cursor"] = cursor

    # who

    def me(self) -> Json:
        return cast(Json, self.call("GET", "me"))

    # jobs

    def submit(self, spec: JobSpec, *, key: str = "") -> Job:
        """Submit once, however often it is tried: the key makes it one job."""
        return cast(Job, self.call("POST", "jobs", body=spec, key=key or str(uuid.uuid4())))

    def jobs(self, *, state: str | None = None, owner: str | None = None, limit: int | None = None) -> Iterator[Job]:
        return cast(Iterator[Job], self.pages("jobs", {"state": state, "owner": owner}, limit))

    def job(self, job: str) -> Job:
        return cast(Job, self.call("GET", _at("jobs", job)))

    def cancel(self, job: str) -> Job:
        return cast(Job, self.call("DELETE", _at("jobs", job)))

    def signal(self, job: str, signal: str) -> Job:
        return cast(Job, self.call("POST", _at("jobs", job, "signal"), body={"signal": signal}))

    def hold(self, job: str) -> Job:
        return self._verb(job, "hold")

    def release(self, job: str) -> Job:
        return self._verb(job, "release")

    def suspend(self, job: str) -> Job:
        return self._verb(job, "suspend")

    def resume(self, job: str) -> Job:
        return self._verb(job, "resume")

    def copy(self, job: str, body: Mapping[str, Any], *, key: str = "") -> Job:
        """A new job: `generation` in the body makes it grow from there, else it is the same once more from its start."""
        return cast(Job, self.call("POST", _at("jobs", job, "copy"), body=dict(body), key=key or str(uuid.uuid4())))

    def _verb(self, job: str, verb: str) -> Job:
        return cast(Job, self.call("POST", _at("jobs", job, verb), body={}))

    def check(self, job: str) -> Json:
        return cast(Json, self.call("GET", _at("jobs", job, "check")))

    def runs(self, job: str) -> list[Json]:
        return list(self.pages(_at("jobs", job, "runs")))

    def job_events(self, job: str) -> Iterator[Json]:
        """Everything that happened to it, oldest first."""
        after = 0
        while True:
            items, _ = _page(self.call("GET", _at("jobs", job, "events"), params={"after": after}))
            yield from items
            if not items:
                return
            after = items[-1]["id"]

    def files(self, job: str) -> list[Json]:
        return list(self.pages(_at("jobs", job, "files")))

    def exec(self, job: str, argv: list[str], *, pod: int = 0, timeout_s: int = 60) -> Json:
        body = {"argv": argv, "pod": pod, "timeout_s": timeout_s}
        return cast(Json, self.call("POST", _at("jobs", job, "exec"), body=body))

    def log_page(self, job: str, *, pod: int | None = None, stream: str | None = None, after: int = 0) -> Json:
        """Pieces of output in the order of their arrival: {items, next, epoch, state, over}; `next` goes into `after`."""
        return cast(Json, self.call("GET", _at("jobs", job, "log"), params={"pod": pod, "stream": stream, "after": after}))

    def log(self, job: str, *, pod: int | None = None, stream: str | None = None) -> Json:
        """All of the output so far: the pages as one, and `text`, its pieces joined."""
        page = self.log_page(job, pod=pod, stream=stream)
        items = list(page["items"])
        while page["items"]:
            page = self.log_page(job, pod=pod, stream=stream, after=page["next"])
            items += page["items"]
        return page | {"items": items, "text": "".join(item["text"] for item in items)}

    def wait(self, job: str, *, poll_s: float = 0.5) -> Job:
        """The job when it has ended, however long that takes."""
        while True:
            seen = self.job(job)
            if seen.get("state") in FINAL_STATES:
                return seen
            time.sleep(poll_s)

    # generations

    def generations(self, job: str) -> list[Generation]:
        return cast(list[Generation], list(self.pages(_at("jobs", job, "generations"))))

    def generation(self, job: str, number: int) -> Generation:
        return cast(Generation, self.call("GET", _at("jobs", job, "generations", number)))

    def checkpoint(self, job: str) -> Generation:
        return cast(Generation, self.call("POST", _at("jobs", job, "generations"), body={}))

    def pin(self, job: str, number: int, pinned: bool) -> Generation:
        return cast(Generation, self.call("PATCH", _at("jobs", job, "generations", number), body={"pinned": pinned}))

    def delete_generation(self, job: str, number: int) -> None:
        self.call("DELETE", _at("jobs", job, "generations", number))

    def rollback(self, job: str, number: int, *, placement: list[str] | None = None, dry_run: bool = False) -> Json:
        body: Json = {"generation": number, "dry_run": dry_run}
        if placement:
            body["placement"] = placement
        return cast(Json, self.call("POST", _at("jobs", job, "rollback"), body=body))

    # nodes

    def nodes(self) -> list[Json]:
        return list(self.pages("nodes"))

    def node(self, name: str) -> Json:
        return cast(Json, self.call("GET", _at("nodes", name)))

    def drain(self, name: str) -> Json:
        return cast(Json, self.call("POST", _at("nodes", name, "drain"), body={}))

    def undrain(self, name: str) -> Json:
        return cast(Json, self.call("POST", _at("nodes", name, "undrain"), body={}))

    def node_token(self) -> Json:
        return cast(Json, self.call("POST", "nodes/tokens", body={}))

    # events

    def events(self, *, after: str | int | None = None) -> Iterator[Json]:
        """Every event from now on (or after an id), for ever: a broken stream is resumed where it ended."""
        last = after
        while True:
            try:
                for event in self._event_stream(last):
                    last = event.get("id", last)
                    yield event
            except httpx.TransportError:
                time.sleep(0.5)

    def _event_stream(self, after: str | int | None) -> Iterator[Json]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after is not None else {})
        timeout = httpx.Timeout(10.0, read=60.0)
        with self._http.stream("GET", "events", headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                raise _refusal(response)
            yield from parse_events(response.iter_lines())


def parse_events(lines: Iterator[str]) -> Iterator[Json]:
    """Server-sent events: the `data` of each, with the stream's id where the data names none."""
    data: list[str] = []
    event_id = ""
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].lstrip())
        elif line.startswith("id:"):
            event_id = line[3:].strip()
        elif not line and data:
            event = json.loads("\n".join(data))
            yield {"id": event_id} | event
            data = []


def _at(*parts: str | int) -> str:
    return "/".join(quote(str(part), safe="") for part in parts)


def _page(answer: Any) -> tuple[list[Json], str | None]:
    if isinstance(answer, list):
        return answer, None
    return answer["items"], answer.get("next")


def _parsed(response: httpx.Response) -> Any:
    if response.status_code == 204 or not response.content:
        return None
    try:
        return response.json()
    except ValueError as fault:
        raise ClusterError(CODES["PROTOCOL"], f"{response.url} did not answer in JSON: is this a ClusterOS server?") from fault


def _refusal(response: httpx.Response) -> ClusterError:
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
