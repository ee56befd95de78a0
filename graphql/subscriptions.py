"""The root of subscriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry
from strawberry import UNSET

from jobledger.domain.service_levels import WINDOW_DAYS
from jobledger.graphql.context import Info, context_of
from jobledger.graphql.scalars import Position
from jobledger.graphql.service_levels import MIN_INTERVAL_SECONDS
from jobledger.graphql.types.inputs import JobEventFilter
from jobledger.graphql.types.jobs import JobEventItem
from jobledger.graphql.types.service_levels import GoldenSignals, ServiceLevel


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

    @strawberry.subscription(description="As the query of that name, every so many seconds: 5 to 3,600.")
    async def slo(
        self, info: Info, window_days: int = WINDOW_DAYS, every_seconds: int = MIN_INTERVAL_SECONDS
    ) -> AsyncGenerator[list[ServiceLevel], None]:
        """All subscribers share what is computed."""
        levels = context_of(info).components.levels
        async with aclosing(levels.follow_levels(window_days, every_seconds)) as answers:
            async for answer in answers:
                yield answer

    @strawberry.subscription(description="As the query of that name, every so many seconds: 5 to 3,600.")
    async def golden_signals(
        self, info: Info, every_seconds: int = MIN_INTERVAL_SECONDS
    ) -> AsyncGenerator[GoldenSignals, None]:
        """All subscribers share what is computed."""
        async with aclosing(context_of(info).components.levels.follow_signals(every_seconds)) as answers:
            async for answer in answers:
                yield answer
