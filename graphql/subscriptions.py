"""The root of subscriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import strawberry
from strawberry import UNSET

from jobledger.graphql.context import Info, context_of
from jobledger.graphql.scalars import Position
from jobledger.graphql.types.inputs import JobEventFilter
from jobledger.graphql.types.jobs import JobEventItem


@strawberry.type(description="Streams over graphql-transport-ws and server-sent events.")
class Subscription:
    """What goes on."""

    @strawberry.subscription(
        description="Events of jobs, in order per job, without gaps. Goes on behind `after`; partitions that it does "
        "not name, or all without it, start now. `fromStart` (needs `filter.jobId`): the job's history comes first."
    )
    async def job_events(
        self,
        info: Info,
        filter: JobEventFilter | None = UNSET,
        after: Position | None = UNSET,
        from_start: bool = False,
    ) -> AsyncGenerator[JobEventItem, None]:
        """Ends with a Resync when the subscriber is too slow."""
        context = context_of(info)
        async for item in context.components.events.stream(context.reads.cursors, filter, after, from_start):
            yield item
