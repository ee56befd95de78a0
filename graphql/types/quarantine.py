"""What could not be read or decided, as operators see it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import strawberry

from jobledger.graphql.scalars import BigInt, Cursor, DateTime
from jobledger.graphql.types.errors import Conflict, NotFound, Unavailable, ValidationFailed
from jobledger.graphql.types.nodes import PageInfo


@strawberry.enum(description="What became of a thing set aside.")
class QuarantineStatus(StrEnum):
    """OPEN until somebody retries or discards it."""

    OPEN = "OPEN"
    RETRIED = "RETRIED"
    DISCARDED = "DISCARDED"


@strawberry.type(description="One thing that could not be read or decided and was set aside.")
class QuarantinedItem:
    """The topic, partition and offset say where it stood; null offset: the owner did it by itself (a timer, say)."""

    id: strawberry.ID
    status: QuarantineStatus
    reason: str
    at: DateTime | None
    topic: str
    partition: int
    offset: BigInt | None
    index: int | None = strawberry.field(description="Place in the record, counted from 0.")
    command_id: strawberry.ID | None
    stream: str | None
    size: int = strawberry.field(description="Bytes that were set aside.")
    text: str = strawberry.field(description="Its first 64 KiB as text, where one is asked for; empty in lists.")
    data: str | None = strawberry.field(description="All bytes as base64; null in lists, and while some are missing.")
    resolved_at: DateTime | None
    resolved_by: str | None
    note: str | None


@strawberry.type
class QuarantineEdge:
    """A thing set aside and its place."""

    cursor: Cursor
    node: QuarantinedItem


@strawberry.type(description="A page of what was set aside, the newest first.")
class QuarantineConnection:
    """At most the newest 10,000 are known."""

    edges: list[QuarantineEdge]
    page_info: PageInfo


@strawberry.type(description="It is resolved, and stands in the log as such.")
class QuarantineResolved:
    """The thing as it is now."""

    item: QuarantinedItem


QuarantineResult = Annotated[
    QuarantineResolved | ValidationFailed | NotFound | Conflict | Unavailable, strawberry.union("QuarantineResult")
]
