"""What every REST answer shares: pages, and the problem of RFC 9457 by which everything is refused."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from ninja import Schema
from pydantic import Field

Item = TypeVar("Item")
Moment = Annotated[str, Field(description="ISO 8601, UTC", examples=["2026-03-01T12:00:00+00:00"])]
Sparse = dict[str, Any]
"""An item with the fields that were asked for alone."""


class Page(Schema, Generic[Item]):
    """`next` is the cursor of the following page, null on the last one."""

    items: list[Item]
    next: str | None = Field(None, examples=["NDI"])


class Strict(Schema):
    """What is sent must be of the type that is named: a text is no number."""

    model_config = {"strict": True}


class Problem(Schema):
    """A refusal. `code` is a name of the shared table (native/codes.def), `detail` says it for people."""

    model_config = {"extra": "allow"}

    type: str = Field("about:blank")
    title: str = Field(examples=["there is no such thing, or it is not yours"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no job 12"])
    code: str = Field(examples=["NOT_FOUND"])
    field: str | None = Field(None, description="the field that is at fault, if one is")
    errors: list[dict[str, Any]] | None = Field(None, description="every fault, when several were found")
