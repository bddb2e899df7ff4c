"""One WebSocket per page: tells the browser *what* changed, as topics, never the content; the page then asks for it.

Topics: `events` (anything), `jobs`, `job-N`, `generations-N`, `nodes`, `node-NAME`, and `log-N` for the job that the page
names in its address (?job=N). A user hears of own jobs and of nodes; an administrator of everything. Nobody who is
not logged in is let in.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncJsonWebsocketConsumer

from jobs.models import Job

NOT_LOGGED_IN = 4401


def topics_of(event: dict[str, Any]) -> list[str]:
    topics = ["events"]
    number = event.get("job_number")
    if number is not None:
        topics += ["jobs", f"job-{number}"]
        if event.get("generation") is not None:
            topics.append(f"generations-{number}")
    if event.get("node"):
        topics += ["nodes", f"node-{event['node']}"]
    return topics


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Joins its groups before it accepts, so that no change falls between the page and the socket."""

    async def connect(self) -> None:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.accept()
            await self.close(code=NOT_LOGGED_IN)
            return
        self.joined: list[str] = []
        await self._join("events")
        await self._join_log(user)
        await self.accept()

    async def _join(self, group: str) -> None:
        await self.channel_layer.group_add(group, self.channel_name)
        self.joined.append(group)

    async def _join_log(self, user: Any) -> None:
        wanted = parse_qs(self.scope["query_string"].decode("ascii", "replace")).get("job", [""])[0]
        if not wanted.isdecimal() or len(wanted) > 15:
            return
        jobs = Job.objects.filter(number=int(wanted))
        job = await (jobs if user.is_staff else jobs.filter(owner=user)).afirst()
        if job is not None:
            self.log_topic = f"log-{job.number}"
            await self._join(f"log-{job.id}")

    async def disconnect(self, code: int) -> None:
        for group in getattr(self, "joined", []):
            await self.channel_layer.group_discard(group, self.channel_name)

    async def cluster_event(self, message: dict[str, Any]) -> None:
        event, user = message["event"], self.scope["user"]
        if user.is_staff or event.get("owner_id") in (None, user.id):
            await self.send_json({"topics": topics_of(event)})

    async def cluster_log(self, message: dict[str, Any]) -> None:
        await self.send_json({"topics": [self.log_topic]})
