"""A trace, as a dev stack keeps it."""

from __future__ import annotations

from typing import Annotated

import strawberry

from jobledger.graphql.scalars import DateTime, Json
from jobledger.graphql.types.errors import NotFound, Unavailable, ValidationFailed


@strawberry.type(description="One step of a trace: who did it, when, and how long it took.")
class Span:
    """`parent_id` is null at the root, and may name a span that nobody has exported."""

    id: strawberry.ID
    parent_id: strawberry.ID | None
    name: str
    service: str
    start: DateTime
    start_ms: float = strawberry.field(description="The same in ms since 1970, and finer.")
    duration_ms: float
    attributes: Json
    failed: bool
    links: list[strawberry.ID] = strawberry.field(description="Ids of the traces that it came from.")


@strawberry.type(description="Everything that was recorded of one request and the work that it caused.")
class Trace:
    """The spans in the order of their starts."""

    id: strawberry.ID
    spans: list[Span]


TraceResult = Annotated[Trace | NotFound | ValidationFailed | Unavailable, strawberry.union("TraceResult")]
