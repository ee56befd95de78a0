"""Jobs, their attempts and events, as queries show them."""

from __future__ import annotations

from typing import Annotated, Protocol, cast

import strawberry
from strawberry import UNSET

from jobledger.graphql.scalars import BigInt, Cursor, DateTime, Json, Position
from jobledger.graphql.types.inputs import GraphQLJobStatus
from jobledger.graphql.types.nodes import Node, PageInfo
from jobledger.graphql.types.queues import Queue

MAX_PAGE = 100


@strawberry.type
class Tag:
    """One tag of a job."""

    name: str
    value: str


@strawberry.type(description="When a failed attempt is tried again.")
class RetryPolicy:
    """Waits in seconds."""

    max_attempts: int
    initial_seconds: float
    factor: float
    max_seconds: float
    jitter_ratio: float
    give_up_on: list[str]


@strawberry.type(description="One hand-out of a job to a worker, or of a job that waits in its queue for one.")
class Attempt:
    """Attempts count what the retry policy counts, assignments every hand-out."""

    attempt: int
    assignment: int = strawberry.field(description="The fencing token.")
    execution_id: strawberry.ID
    cause: str = strawberry.field(description="Why it was handed out: due, retry, lost, returned.")
    status: str = strawberry.field(
        description="READY, ASSIGNED, RUNNING, then SUCCEEDED, FAILED, TIMEOUT, LOST, RETURNED or CANCELLED."
    )
    worker: str | None
    ready_at: DateTime | None
    assigned_at: DateTime | None
    started_at: DateTime | None
    ended_at: DateTime | None
    retry_at: DateTime | None
    error_type: str | None
    error: Json | None


@strawberry.type(description="Who caused something.")
class Actor:
    """A user, a worker or the scheduler."""

    kind: str
    id: str


@strawberry.type(description="One event of a job, as in the log.")
class JobEvent:
    """`data` holds the event's own fields under the names they have in the log."""

    id: strawberry.ID
    type: str = strawberry.field(description="Such as io.jobledger.job.submitted.v1.")
    job_id: strawberry.ID
    version: int = strawberry.field(description="1, 2, 3 … per job.")
    partition: int
    seq: BigInt = strawberry.field(description="1, 2, 3 … per partition.")
    at: DateTime
    command_id: strawberry.ID
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    actor: Actor
    tags: list[Tag]
    data: Json
    status: GraphQLJobStatus | None = strawberry.field(  # type: ignore[valid-type]
        description="The job's after the event; null where an older event, which lacks it, leaves it as it was."
    )
    position: Position = strawberry.field(description="Subscribe `after` this to go on behind this event.")


@strawberry.type
class JobEventEdge:
    """An event and its place."""

    cursor: Cursor
    node: JobEvent


@strawberry.type
class JobEventConnection:
    """A page of a job's events."""

    edges: list[JobEventEdge]
    page_info: PageInfo


class JobReads(Protocol):
    """Where a request finds what belongs to a job."""

    async def queue(self, name: str) -> Queue | None:
        """A queue by name."""
        ...

    async def attempts(self, job_id: str) -> list[Attempt]:
        """The hand-outs of a job."""
        ...

    async def options(self, job_id: str) -> Json:
        """What its submission asked for beyond what its type shows."""
        ...

    async def job_events(self, job_id: str, first: int, after: Cursor | None) -> JobEventConnection:
        """A page of a job's events."""
        ...


class JobReasons(Protocol):
    """Who knows why a job is where it is."""

    async def why(self, job: Job) -> str | None:
        """One sentence; None when it has ended."""
        ...


class JobContext(Protocol):
    """What a job asks of the request that it is shown by."""

    @property
    def reads(self) -> JobReads: ...  # noqa: D102
    @property
    def owner_questions(self) -> JobReasons: ...  # noqa: D102


def _context(info: strawberry.Info) -> JobContext:
    return cast(JobContext, info.context)


@strawberry.type(description="A job.")
class Job(Node):
    """As the read model has it; `why` asks the owner."""

    id: strawberry.ID
    status: GraphQLJobStatus  # type: ignore[valid-type]
    handler: str
    queue_name: str
    priority: int
    version: int
    payload: Json | None
    result: Json | None
    submitted_at: DateTime
    due_at: DateTime
    started_at: DateTime | None = strawberry.field(description="Of the current or last attempt.")
    ended_at: DateTime | None
    worker: str | None = strawberry.field(description="That has or had the current or last attempt.")
    attempt: int = strawberry.field(description="Number of the current or last attempt; 0 before the first.")
    retry_at: DateTime | None
    timeout_seconds: float | None
    retry: RetryPolicy
    tags: list[Tag]
    parent_id: strawberry.ID | None
    correlation_id: str | None
    traceparent: str | None
    cancel_requested_at: DateTime | None
    cancel_reason: str | None
    error_type: str | None = strawberry.field(
        description="Of a dead letter's last attempt. The error of any attempt stands in attempts."
    )
    error: Json | None = strawberry.field(description="Of a dead letter's last attempt, as errorType.")
    dead_letter_cause: str | None
    run: int = strawberry.field(description="1, and one more each time that the job was redriven.")

    @strawberry.field(description="The queue that the job goes to.")
    async def queue(self, info: strawberry.Info) -> Queue | None:
        """From the read model."""
        return await _context(info).reads.queue(self.queue_name)

    @strawberry.field(description="Every hand-out so far, oldest first.")
    async def attempts(self, info: strawberry.Info) -> list[Attempt]:
        """From the read model; at most 1,000."""
        return await _context(info).reads.attempts(self.id)

    @strawberry.field(description="What its submission asked for beyond what has a field here.")
    async def options(self, info: strawberry.Info) -> Json:
        """From the read model's history."""
        return await _context(info).reads.options(self.id)

    @strawberry.field(description="The job's events, oldest first.")
    async def events(self, info: strawberry.Info, first: int = 50, after: Cursor | None = UNSET) -> JobEventConnection:
        """From the read model."""
        return await _context(info).reads.job_events(self.id, first, after)

    @strawberry.field(description="Why the job is where it is; asks the owner of its queue. Null when it has ended.")
    async def why(self, info: strawberry.Info) -> str | None:
        """One sentence."""
        return await _context(info).owner_questions.why(self)


@strawberry.type
class JobEdge:
    """A job and its place."""

    cursor: Cursor
    node: Job


@strawberry.type(description="A page of jobs.")
class JobConnection:
    """`position` is what the page has seen at least."""

    edges: list[JobEdge]
    page_info: PageInfo
    position: Position


@strawberry.type(description="The subscriber was too slow, or its place in the log is gone: subscribe again.")
class Resync:
    """The last item of a stream that the server ends."""

    message: str
    position: Position = strawberry.field(description="Subscribe `after` this to miss nothing.")


JobEventItem = Annotated[JobEvent | Resync, strawberry.union("JobEventItem")]
