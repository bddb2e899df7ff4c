"""The Python client: `Cluster` speaks REST /api/v1 and nothing else. The command line is made of it.

Answers are the server's JSON, typed below as far as callers rely on it (more keys may come). Every refusal raises
ClusterError with the code of native/codes.def. Reads that failed on the way are tried again; writes only when they
carry an idempotency key, so that nothing is done twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, cast

import httpx

from clusteros.aclient import AsyncCluster
from clusteros.answers import (
    DOWNLOAD,
    FINAL_STATES,
    KEPT,
    TRIES,
    ClusterError,
    Generation,
    Job,
    JobSpec,
    Json,
    at,
    is_worth_another,
    page_of,
    parse_events,
    parsed,
    refusal_of,
    wait_before,
)  # fmt: skip
from clusteros.login import read_login
from native.codes import CODES

__all__ = ["AsyncCluster", "Cluster", "ClusterError", "Generation", "Job", "JobSpec", "Json", "parse_events"]

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
            limits=KEPT,
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
            return parsed(response)
        raise refusal_of(response)

    def _send(self, method: str, path: str, tries: int, **parts: Any) -> httpx.Response:
        for attempt in range(1, tries + 1):
            last, response = attempt == tries, None
            try:
                response = self._http.request(method, path.lstrip("/"), **parts)
            except httpx.TransportError as fault:
                if last:
                    raise self._unreachable(fault) from fault
            else:
                if last or not is_worth_another(response):
                    return response
            time.sleep(wait_before(attempt, response))
        raise AssertionError("unreachable: the last try returns or raises")

    def _unreachable(self, fault: Exception) -> ClusterError:
        return ClusterError(CODES["BUSY"], f"the cluster at {self.url} cannot be reached: {fault}")

    def pages(self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> Iterator[Json]:
        """Every item of a list that comes in cursor pages, at most `limit` of them."""
        wanted = dict(params or {})
        left = limit
        while True:
            answer = self.call("GET", path, params=wanted)
            items, cursor = page_of(answer)
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

    def foresee(self, spec: JobSpec) -> Json:
        """Where and when it would start, if it were submitted now."""
        return cast(Json, self.call("POST", "jobs", body=spec, params={"dry_run": True}))

    def submit_many(self, specs: list[JobSpec], *, key: str = "") -> list[Json]:
        """Up to 10,000 at once: all or none."""
        return cast(list[Json], self.call("POST", "jobs/bulk", body=specs, key=key or str(uuid.uuid4()))["items"])

    def submit_array(self, spec: JobSpec, indexes: str, *, key: str = "") -> Json:
        """{array, items}: one job for each index of '0-9', '1-99:2', '3,5,8'."""
        return cast(Json, self.call("POST", "jobs/array", body={**spec, "array": indexes}, key=key or str(uuid.uuid4())))

    def jobs(self, *, limit: int | None = None, **filters: Any) -> Iterator[Job]:
        """Newest first. Filters: state, owner, name, array, since, until, fields."""
        return cast(Iterator[Job], self.pages("jobs", filters, limit))

    def job(self, job: str) -> Job:
        return cast(Job, self.call("GET", at("jobs", job)))

    def cancel(self, job: str) -> Job:
        return cast(Job, self.call("DELETE", at("jobs", job)))

    def signal(self, job: str, signal: str) -> Job:
        return cast(Job, self.call("POST", at("jobs", job, "signal"), body={"signal": signal}))

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
        return cast(Job, self.call("POST", at("jobs", job, "copy"), body=dict(body), key=key or str(uuid.uuid4())))

    def _verb(self, job: str, verb: str) -> Job:
        return cast(Job, self.call("POST", at("jobs", job, verb), body={}))

    def check(self, job: str) -> Json:
        return cast(Json, self.call("GET", at("jobs", job, "check")))

    def runs(self, job: str) -> list[Json]:
        return list(self.pages(at("jobs", job, "runs")))

    def job_events(self, job: str) -> Iterator[Json]:
        """Everything that happened to it, oldest first."""
        after = 0
        while True:
            items, _ = page_of(self.call("GET", at("jobs", job, "events"), params={"after": after}))
            yield from items
            if not items:
                return
            after = items[-1]["id"]

    def files(self, job: str) -> list[Json]:
        return list(self.pages(at("jobs", job, "files")))

    def exec(self, job: str, argv: list[str], *, pod: int = 0, timeout_s: int = 60) -> Json:
        body = {"argv": argv, "pod": pod, "timeout_s": timeout_s}
        return cast(Json, self.call("POST", at("jobs", job, "exec"), body=body))

    def log_page(self, job: str, *, pod: int | None = None, stream: str | None = None, after: int = 0, rank: int | None = None) -> Json:
        """Pieces of output in the order of their arrival: {items, next, epoch, state, over}; `next` goes into `after`."""
        params = {"pod": pod, "stream": stream, "after": after, "rank": rank}
        return cast(Json, self.call("GET", at("jobs", job, "log"), params=params))

    def log(self, job: str, *, pod: int | None = None, stream: str | None = None, rank: int | None = None) -> Json:
        """All of the output so far: the pages as one, and `text`, its pieces joined."""
        page = self.log_page(job, pod=pod, stream=stream, rank=rank)
        items, after = list(page["items"]), 0
        while page["next"] != after:
            after = page["next"]
            page = self.log_page(job, pod=pod, stream=stream, after=after, rank=rank)
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
        return cast(list[Generation], list(self.pages(at("jobs", job, "generations"))))

    def generation(self, job: str, number: int) -> Generation:
        return cast(Generation, self.call("GET", at("jobs", job, "generations", number)))

    def checkpoint(self, job: str) -> Generation:
        return cast(Generation, self.call("POST", at("jobs", job, "generations"), body={}))

    def retention(self, job: str, body: Mapping[str, Any]) -> Json:
        """Keep other generations from now on (keep, keep_every, keep_per); with dry_run only what that would remove."""
        return cast(Json, self.call("POST", at("jobs", job, "retention"), body=body))

    def pin(self, job: str, number: int, pinned: bool) -> Generation:
        return cast(Generation, self.call("PATCH", at("jobs", job, "generations", number), body={"pinned": pinned}))

    def delete_generation(self, job: str, number: int) -> Generation:
        return cast(Generation, self.call("DELETE", at("jobs", job, "generations", number)))

    def difference(self, job: str, number: int) -> Json:
        """What the job used when the generation was taken, beside what it uses now."""
        return cast(Json, self.call("GET", at("jobs", job, "generations", number, "difference")))

    def processes(self, job: str, number: int) -> list[Json]:
        """[{pod, processes, words}]: what a generation holds."""
        return list(self.pages(at("jobs", job, "generations", number, "processes")))

    def core(self, job: str, number: int, pod: int, pid: int) -> Iterator[bytes]:
        """A process of a generation as an ELF core, piece by piece."""
        return self._download(at("jobs", job, "generations", number, "core"), {"pod": pod, "pid": pid})

    def export(self, job: str, number: int) -> Iterator[bytes]:
        """A whole generation as a tar, piece by piece; ClusterError IO when it breaks off."""
        return self._download(at("jobs", job, "generations", number, "export"), {})

    def _download(self, path: str, params: Json) -> Iterator[bytes]:
        try:
            with self._http.stream("GET", path.lstrip("/"), params=params, timeout=DOWNLOAD) as response:
                if not response.is_success:
                    response.read()
                    raise refusal_of(response)
                yield from response.iter_bytes()
        except httpx.TransportError as fault:
            raise ClusterError(CODES["IO"], f"the file broke off: {fault}") from fault

    def rollback(self, job: str, number: int, *, placement: list[str] | None = None, dry_run: bool = False, safety: bool = True) -> Json:
        """`safety`: the present is kept as a generation first, where that is possible."""
        body: Json = {"generation": number, "dry_run": dry_run, "safety": safety}
        if placement:
            body["placement"] = placement
        return cast(Json, self.call("POST", at("jobs", job, "rollback"), body=body))

    # nodes

    def nodes(self) -> list[Json]:
        return list(self.pages("nodes"))

    def node(self, name: str) -> Json:
        return cast(Json, self.call("GET", at("nodes", name)))

    def drain(self, name: str) -> Json:
        return cast(Json, self.call("POST", at("nodes", name, "drain"), body={}))

    def undrain(self, name: str) -> Json:
        return cast(Json, self.call("POST", at("nodes", name, "undrain"), body={}))

    def node_token(self) -> Json:
        return cast(Json, self.call("POST", "nodes/tokens", body={}))

    def store(self) -> Json:
        """What the images take, by node and by job."""
        return cast(Json, self.call("GET", "store"))

    def job_store(self, job: str) -> Json:
        """What each generation of a job takes, and what its removal would give back."""
        return cast(Json, self.call("GET", at("jobs", job, "store")))

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
                raise refusal_of(response)
            yield from parse_events(response.iter_lines())
