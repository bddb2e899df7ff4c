"""The Python client for asynchronous programs: `AsyncCluster` has the verbs of clusteros.client.Cluster, to be awaited.

What may be tried again, and how refusals look, is the same (clusteros/answers.py).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self, cast

import httpx

from clusteros.answers import (
    DOWNLOAD,
    FINAL_STATES,
    KEPT,
    TRIES,
    ClusterError,
    EventParser,
    Generation,
    Job,
    JobSpec,
    Json,
    at,
    is_worth_another,
    page_of,
    parsed,
    refusal_of,
    wait_before,
)  # fmt: skip
from clusteros.login import read_login
from native.codes import CODES


class AsyncCluster:
    """One cluster, as one user: `async with AsyncCluster() as cluster: await cluster.submit(…)`."""

    def __init__(
        self, url: str | None = None, token: str | None = None, *, timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        if url is None or token is None:
            known = read_login()
            url, token = url or known.url, token or known.token
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._http = httpx.AsyncClient(base_url=self.url + "/api/v1/", headers=headers, timeout=timeout_s, limits=KEPT, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # the one way out

    async def call(self, method: str, path: str, *, body: object = None, params: Mapping[str, Any] | None = None, key: str = "") -> Any:
        """One request; the parsed answer, None where there is no content; ClusterError otherwise."""
        headers = {"Idempotency-Key": key} if key else {}
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        response = await self._send(method, path, TRIES if method == "GET" or key else 1, json=body, params=wanted, headers=headers)
        if response.is_success:
            return parsed(response)
        raise refusal_of(response)

    async def _send(self, method: str, path: str, tries: int, **parts: Any) -> httpx.Response:
        for attempt in range(1, tries + 1):
            last, response = attempt == tries, None
            try:
                response = await self._http.request(method, path.lstrip("/"), **parts)
            except httpx.TransportError as fault:
                if last:
                    raise ClusterError(CODES["BUSY"], f"the cluster at {self.url} cannot be reached: {fault}") from fault
            else:
                if last or not is_worth_another(response):
                    return response
            await asyncio.sleep(wait_before(attempt, response))
        raise AssertionError("unreachable: the last try returns or raises")

    async def pages(self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None) -> AsyncIterator[Json]:
        """Every item of a list that comes in cursor pages, at most `limit` of them."""
        wanted, left = dict(params or {}), limit
        while True:
            items, cursor = page_of(await self.call("GET", path, params=wanted))
            for item in items if left is None else items[:left]:
                yield item
            left = None if left is None else left - len(items)
            if not cursor or (left is not None and left <= 0):
                return
            wanted["cursor"] = cursor

    async def _all(self, path: str) -> list[Any]:
        return [item async for item in self.pages(path)]

    # jobs

    async def me(self) -> Json:
        return cast(Json, await self.call("GET", "me"))

    async def submit(self, spec: JobSpec, *, key: str = "") -> Job:
        """Submit once, however often it is tried: the key makes it one job."""
        return cast(Job, await self.call("POST", "jobs", body=spec, key=key or str(uuid.uuid4())))

    async def foresee(self, spec: JobSpec) -> Json:
        return cast(Json, await self.call("POST", "jobs", body=spec, params={"dry_run": True}))

    async def submit_many(self, specs: list[JobSpec], *, key: str = "") -> list[Json]:
        return cast(list[Json], (await self.call("POST", "jobs/bulk", body=specs, key=key or str(uuid.uuid4())))["items"])

    async def submit_array(self, spec: JobSpec, indexes: str, *, key: str = "") -> Json:
        body = {**spec, "array": indexes}
        return cast(Json, await self.call("POST", "jobs/array", body=body, key=key or str(uuid.uuid4())))

    def jobs(self, *, limit: int | None = None, **filters: Any) -> AsyncIterator[Json]:
        return self.pages("jobs", filters, limit)

    async def job(self, job: str) -> Job:
        return cast(Job, await self.call("GET", at("jobs", job)))

    async def cancel(self, job: str) -> Job:
        return cast(Job, await self.call("DELETE", at("jobs", job)))

    async def hold(self, job: str) -> Job:
        return await self._verb(job, "hold")

    async def release(self, job: str) -> Job:
        return await self._verb(job, "release")

    async def suspend(self, job: str) -> Job:
        return await self._verb(job, "suspend")

    async def resume(self, job: str) -> Job:
        return await self._verb(job, "resume")

    async def _verb(self, job: str, verb: str) -> Job:
        return cast(Job, await self.call("POST", at("jobs", job, verb), body={}))

    async def signal(self, job: str, signal: str) -> Job:
        return cast(Job, await self.call("POST", at("jobs", job, "signal"), body={"signal": signal}))

    async def copy(self, job: str, body: Mapping[str, Any], *, key: str = "") -> Job:
        return cast(Job, await self.call("POST", at("jobs", job, "copy"), body=dict(body), key=key or str(uuid.uuid4())))

    async def check(self, job: str) -> Json:
        return cast(Json, await self.call("GET", at("jobs", job, "check")))

    async def runs(self, job: str) -> list[Json]:
        return await self._all(at("jobs", job, "runs"))

    async def job_events(self, job: str) -> AsyncIterator[Json]:
        """Everything that happened to it, oldest first."""
        after = 0
        while True:
            items, _ = page_of(await self.call("GET", at("jobs", job, "events"), params={"after": after}))
            for item in items:
                yield item
            if not items:
                return
            after = items[-1]["id"]

    async def files(self, job: str) -> list[Json]:
        return await self._all(at("jobs", job, "files"))

    async def exec(self, job: str, argv: list[str], *, pod: int = 0, timeout_s: int = 60) -> Json:
        body = {"argv": argv, "pod": pod, "timeout_s": timeout_s}
        return cast(Json, await self.call("POST", at("jobs", job, "exec"), body=body))

    async def log_page(
        self, job: str, *, pod: int | None = None, stream: str | None = None, after: int = 0, rank: int | None = None
    ) -> Json:
        params = {"pod": pod, "stream": stream, "after": after, "rank": rank}
        return cast(Json, await self.call("GET", at("jobs", job, "log"), params=params))

    async def log(self, job: str, *, pod: int | None = None, stream: str | None = None, rank: int | None = None) -> Json:
        """All of the output so far: the pages as one, and `text`, its pieces joined."""
        page = await self.log_page(job, pod=pod, stream=stream, rank=rank)
        items, after = list(page["items"]), 0
        while page["next"] != after:
            after = page["next"]
            page = await self.log_page(job, pod=pod, stream=stream, after=after, rank=rank)
            items += page["items"]
        return page | {"items": items, "text": "".join(item["text"] for item in items)}

    async def wait(self, job: str, *, poll_s: float = 0.5) -> Job:
        """The job when it has ended, however long that takes."""
        while True:
            seen = await self.job(job)
            if seen.get("state") in FINAL_STATES:
                return seen
            await asyncio.sleep(poll_s)

    # generations

    async def generations(self, job: str) -> list[Generation]:
        return await self._all(at("jobs", job, "generations"))

    async def generation(self, job: str, number: int) -> Generation:
        return cast(Generation, await self.call("GET", at("jobs", job, "generations", number)))

    async def checkpoint(self, job: str) -> Generation:
        return cast(Generation, await self.call("POST", at("jobs", job, "generations"), body={}))

    async def retention(self, job: str, body: Mapping[str, Any]) -> Json:
        """Keep other generations from now on (keep, keep_every, keep_per); with dry_run only what that would remove."""
        return cast(Json, await self.call("POST", at("jobs", job, "retention"), body=body))

    async def pin(self, job: str, number: int, pinned: bool) -> Generation:
        return cast(Generation, await self.call("PATCH", at("jobs", job, "generations", number), body={"pinned": pinned}))

    async def delete_generation(self, job: str, number: int) -> Generation:
        return cast(Generation, await self.call("DELETE", at("jobs", job, "generations", number)))

    async def difference(self, job: str, number: int) -> Json:
        return cast(Json, await self.call("GET", at("jobs", job, "generations", number, "difference")))

    async def processes(self, job: str, number: int) -> list[Json]:
        return await self._all(at("jobs", job, "generations", number, "processes"))

    def core(self, job: str, number: int, pod: int, pid: int) -> AsyncIterator[bytes]:
        """A process of a generation as an ELF core, piece by piece."""
        return self._download(at("jobs", job, "generations", number, "core"), {"pod": pod, "pid": pid})

    def export(self, job: str, number: int) -> AsyncIterator[bytes]:
        """A whole generation as a tar, piece by piece; ClusterError IO when it breaks off."""
        return self._download(at("jobs", job, "generations", number, "export"), {})

    async def _download(self, path: str, params: Json) -> AsyncIterator[bytes]:
        try:
            async with self._http.stream("GET", path.lstrip("/"), params=params, timeout=DOWNLOAD) as response:
                if not response.is_success:
                    await response.aread()
                    raise refusal_of(response)
                async for piece in response.aiter_bytes():
                    yield piece
        except httpx.TransportError as fault:
            raise ClusterError(CODES["IO"], f"the file broke off: {fault}") from fault

    async def rollback(
        self, job: str, number: int, *, placement: list[str] | None = None, dry_run: bool = False, safety: bool = True
    ) -> Json:
        body: Json = {"generation": number, "dry_run": dry_run, "safety": safety, "placement": placement}
        return cast(Json, await self.call("POST", at("jobs", job, "rollback"), body=body))

    # nodes and events

    async def nodes(self) -> list[Json]:
        return await self._all("nodes")

    async def node(self, name: str) -> Json:
        return cast(Json, await self.call("GET", at("nodes", name)))

    async def drain(self, name: str) -> Json:
        return cast(Json, await self.call("POST", at("nodes", name, "drain"), body={}))

    async def undrain(self, name: str) -> Json:
        return cast(Json, await self.call("POST", at("nodes", name, "undrain"), body={}))

    async def node_token(self) -> Json:
        return cast(Json, await self.call("POST", "nodes/tokens", body={}))

    async def store(self) -> Json:
        return cast(Json, await self.call("GET", "store"))

    async def job_store(self, job: str) -> Json:
        return cast(Json, await self.call("GET", at("jobs", job, "store")))

    async def events(self, *, after: str | int | None = None) -> AsyncIterator[Json]:
        """Every event from now on (or after an id), for ever: a broken stream is resumed where it ended."""
        last = after
        while True:
            try:
                async for event in self._event_stream(last):
                    last = event.get("id", last)
                    yield event
            except httpx.TransportError:
                await asyncio.sleep(0.5)

    async def _event_stream(self, after: str | int | None) -> AsyncIterator[Json]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after is not None else {})
        async with self._http.stream("GET", "events", headers=headers, timeout=httpx.Timeout(10.0, read=60.0)) as response:
            if not response.is_success:
                await response.aread()
                raise refusal_of(response)
            parser = EventParser()
            async for line in response.aiter_lines():
                event = parser.feed(line)
                if event is not None:
                    yield event
