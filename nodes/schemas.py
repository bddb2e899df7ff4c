"""REST: what is asked and answered about nodes."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Schema
from pydantic import Field

from clusteros.core.schemas import Moment, Sparse, Strict


class JoinIn(Strict):
    token: str
    name: str = Field(examples=["node4"])
    address: str = Field(examples=["10.0.0.4"])
    store_port: int = 0
    store_url: str = Field(examples=["http://10.0.0.4:7800"])
    cores: int = Field(examples=[8])
    mem_bytes: int = Field(examples=[17179869184])
    version: str = ""


class JoinTokenIn(Strict):
    hours: float = 24


class JoinTokenOut(Schema):
    id: int
    token: str = Field(description="shown this once")
    expires_at: Moment


class JoinOut(Schema):
    name: str
    secret: str
    redis_url: str
    heartbeat_s: float


class PodHere(Schema):
    job: int
    pod: int
    state: str
    mem_bytes: int


class NodeOut(Schema):
    name: str
    state: str = Field(examples=["up"])
    address: str
    store_url: str
    cores: int
    mem_bytes: int
    version: str
    load1: float
    mem_used_bytes: int
    store_bytes: int
    disk_free_bytes: int
    net_in_bytes_per_s: int
    net_out_bytes_per_s: int
    joined_at: Moment
    last_heartbeat: Moment | None
    drain_words: str
    pods: list[PodHere] = Field(description="pods of your own jobs; of all, for an administrator")


class NodeDetails(NodeOut):
    doctor: dict[str, Any]
    boot_id: str


NodeOrPart = Annotated[NodeOut | Sparse, Field(union_mode="left_to_right")]
