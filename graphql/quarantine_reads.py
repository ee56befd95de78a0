"""Queries of the quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from jobledger.eventlog.quarantine import QuarantineUnreadableError
from jobledger.graphql.quarantine import unavailable
from jobledger.graphql.reads import check_first, page_info
from jobledger.graphql.scalars import Cursor
from jobledger.graphql.types.errors import QueryError
from jobledger.graphql.types.quarantine import QuarantineConnection, QuarantinedItem, QuarantineEdge

if TYPE_CHECKING:
    from jobledger.graphql.context import RequestContext

_ORDERING = "quarantine"


async def quarantine_page(
    context: RequestContext, first: int, after: Cursor | None, *, resolved: bool
) -> QuarantineConnection:
    """A page of what was set aside, the newest first; raises QueryError."""
    check_first(first)
    cursors = context.reads.cursors
    (start,) = cursors.read(_ORDERING, after) if after else (None,)
    try:
        items, more = await context.components.quarantine.page(first, start, resolved=resolved)
    except (KafkaException, QuarantineUnreadableError) as error:
        raise QueryError(unavailable(error)) from None
    edges = [QuarantineEdge(cursor=cursors.write(_ORDERING, item.id), node=item) for item in items]
    return QuarantineConnection(
        edges=edges, page_info=page_info([edge.cursor for edge in edges], more, start is not None)
    )


async def quarantined_item(context: RequestContext, identity: str) -> QuarantinedItem | None:
    """One thing set aside; raises QueryError."""
    try:
        return await context.components.quarantine.find(identity)
    except (KafkaException, QuarantineUnreadableError) as error:
        raise QueryError(unavailable(error)) from None
