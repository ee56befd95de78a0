"""The root of queries."""

from __future__ import annotations

import strawberry
from strawberry import UNSET

from jobledger.domain.service_levels import WINDOW_DAYS
from jobledger.graphql.context import Info, context_of
from jobledger.graphql.quarantine_reads import quarantine_page, quarantined_item
from jobledger.graphql.scalars import Cursor, Position
from jobledger.graphql.trace_reads import trace_of
from jobledger.graphql.types.inputs import JobFilter, JobOrder
from jobledger.graphql.types.jobs import Job, JobConnection
from jobledger.graphql.types.nodes import Node
from jobledger.graphql.types.quarantine import QuarantineConnection, QuarantinedItem
from jobledger.graphql.types.queues import Command, Queue, ReadModel, Worker
from jobledger.graphql.types.service_levels import GoldenSignals, ServiceLevel
from jobledger.graphql.types.traces import TraceResult


@strawberry.type(description="Questions to the read model. `after`: wait until it has seen that position.")
class Query:
    """Each field waits up to 5 s for `after`, then fails with POSITION_NOT_REACHED."""

    @strawberry.field(description="A job by its id; null if there is none.")
    async def job(self, info: Info, id: strawberry.ID, after: Position | None = UNSET) -> Job | None:
        """One job."""
        return await context_of(info).reads.job(id, after)

    @strawberry.field(description="Jobs, a page at a time. `after` is a cursor here; the position is `afterPosition`.")
    async def jobs(
        self,
        info: Info,
        filter: JobFilter | None = UNSET,
        first: int = 50,
        after: Cursor | None = UNSET,
        order: JobOrder | None = UNSET,
        after_position: Position | None = UNSET,
    ) -> JobConnection:
        """A page of 1 to 100."""
        return await context_of(info).reads.jobs(filter, first, after, order, after_position)

    @strawberry.field(description="Dead-lettered jobs, the last one first.")
    async def dead_letters(
        self,
        info: Info,
        filter: JobFilter | None = UNSET,
        first: int = 50,
        after: Cursor | None = UNSET,
        after_position: Position | None = UNSET,
    ) -> JobConnection:
        """A page of 1 to 100."""
        return await context_of(info).reads.dead_letters(filter, first, after, after_position)

    @strawberry.field(description="A queue by name; null if there is none.")
    async def queue(self, info: Info, name: str, after: Position | None = UNSET) -> Queue | None:
        """One queue."""
        reads = context_of(info).reads
        await reads.wait_for(after)
        return await reads.queue(name)

    @strawberry.field(description="Queues by name, at most 1,000.")
    async def queues(self, info: Info, after: Position | None = UNSET) -> list[Queue]:
        """All queues of the tenant."""
        return await context_of(info).reads.queues(after)

    @strawberry.field(description="Workers that serve a queue, or any; at most 1,000.")
    async def workers(self, info: Info, queue: str | None = UNSET, after: Position | None = UNSET) -> list[Worker]:
        """Registered incarnations, lost ones included until their tasks are given up."""
        return await context_of(info).reads.workers(queue, after)

    @strawberry.field(description="What became of a command.")
    async def command(self, info: Info, id: strawberry.ID, after: Position | None = UNSET) -> Command:
        """From the outcomes of the last minutes, else from the read model."""
        return await context_of(info).reads.command(id, after)

    @strawberry.field(description="What could not be read or decided and was set aside, the newest first.")
    async def quarantine(
        self, info: Info, first: int = 50, after: Cursor | None = UNSET, resolved: bool = False
    ) -> QuarantineConnection:
        """A page of 1 to 100; `resolved`: those that were retried or discarded too."""
        return await quarantine_page(context_of(info), first, after or None, resolved=resolved)

    @strawberry.field(description="One thing in quarantine, whole; null if there is none of that id.")
    async def quarantined(self, info: Info, id: strawberry.ID) -> QuarantinedItem | None:
        """By its id."""
        return await quarantined_item(context_of(info), id)

    @strawberry.field(description="How far the read model has come, and how far it is behind the log.")
    async def read_model(self, info: Info, after: Position | None = UNSET) -> ReadModel:
        """Position and lag."""
        return await context_of(info).reads.read_model(after)

    @strawberry.field(description="The service level objectives, and how they were kept in the last days: 1 to 30.")
    async def slo(self, info: Info, window_days: int = WINDOW_DAYS) -> list[ServiceLevel]:
        """Four: availability, scheduling accuracy, completion, error rate."""
        return await context_of(info).components.levels.levels(window_days)

    @strawberry.field(description="Latency, traffic, errors and saturation, now and against before.")
    async def golden_signals(self, info: Info) -> GoldenSignals:
        """Of the whole cell."""
        return await context_of(info).components.levels.signals()

    @strawberry.field(description="A job or queue by its global id.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        """Of the Relay global object identification specification."""
        return await context_of(info).reads.node(id)

    @strawberry.field(description="A trace by its id, on an api of `jobledger dev`, which keeps the last 1,000.")
    async def trace(self, info: Info, id: strawberry.ID) -> TraceResult:
        """Its spans, or why there are none."""
        return trace_of(context_of(info).components.traces, id)  # type: ignore[return-value]
