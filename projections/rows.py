"""Rows of the read models as the queries give them. Times are ms since the epoch."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

import msgspec

from jobledger.domain.identity import job_stream
from jobledger.domain.values import Lineage, Opaque, RetryPolicy
from jobledger.schemas.events import EventMapper, EventRecord

Row = TypeVar("Row")


class RowStruct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all rows."""


class JobCursor(NamedTuple):
    """Where a page of jobs ends: the time it is ordered by, then the id."""

    at_ms: int
    id: str


class JobOrder(StrEnum):
    """By submission."""

    NEWEST_FIRST = "NEWEST_FIRST"
    OLDEST_FIRST = "OLDEST_FIRST"


class JobFilter(RowStruct, frozen=True, kw_only=True):
    """Which jobs: all that is given has to hold; of a tuple, one. Ranges: from inclusive, before exclusive."""

    statuses: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()
    priorities: tuple[int, ...] = ()
    ids: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    submitted_from_ms: int | None = None
    submitted_before_ms: int | None = None
    due_from_ms: int | None = None
    due_before_ms: int | None = None
    ended_from_ms: int | None = None
    ended_before_ms: int | None = None
    key_digest: str | None = None
    worker: str | None = None
    parent: str | None = None
    root: str | None = None
    retry_of: str | None = None
    schedule: str | None = None
    workflow: str | None = None


class Page(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """Some rows in order, and whether more follow."""

    items: list[Row]
    has_next: bool


class JobRow(RowStruct, frozen=True, kw_only=True):
    """A job. `attempt` 0: it was never ready yet."""

    tenant: str
    id: str
    handler: str
    queue: str
    priority: int
    status: str
    attempt: int
    assignment: int
    retry: RetryPolicy
    timeout_seconds: float | None
    submitted_at_ms: int
    due_at_ms: int
    ready_at_ms: int | None
    started_at_ms: int | None
    ended_at_ms: int | None
    retry_at_ms: int | None
    cancel_requested_at_ms: int | None
    worker: str | None
    payload: Opaque | None
    result: Opaque | None
    error_type: str | None
    error: Opaque | None
    cancel_reason: Opaque | None
    checkpoint: Opaque | None
    checkpoint_at_ms: int | None
    dead_letter_cause: str | None
    run: int
    tags: dict[str, str]
    parent: str | None
    root: str | None
    retry_of: str | None
    schedule: str | None
    fire_at_ms: int | None
    workflow: str | None
    workflow_version: int | None
    key_digest: str | None
    request_digest: str | None
    command_id: str
    actor_kind: str
    actor_id: str
    correlation_id: str | None
    traceparent: str | None
    version: int
    partition: int
    seq: int
    updated_at_ms: int

    @property
    def max_attempts(self) -> int:
        """Attempts that the retry policy allows."""
        return self.retry.max_attempts

    @property
    def stream(self) -> str:
        """Stream id."""
        return job_stream(self.tenant, self.id)

    @property
    def lineage(self) -> Lineage:
        """Where the job comes from."""
        return Lineage(
            parent=self.parent,
            root=self.root,
            retry_of=self.retry_of,
            schedule=self.schedule,
            fire_at_ms=self.fire_at_ms,
            workflow=self.workflow,
            workflow_version=self.workflow_version,
            tags=self.tags,
        )

    @property
    def cursor(self) -> JobCursor:
        """The job's place in `jobs`."""
        return JobCursor(self.submitted_at_ms, self.id)

    @property
    def ended_cursor(self) -> JobCursor:
        """The job's place in `dead_letters`."""
        return JobCursor(self.ended_at_ms or 0, self.id)


class AttemptRow(RowStruct, frozen=True, kw_only=True):
    """One assignment of a job's task. `outcome` None: open; else SUCCEEDED FAILED TIMEOUT LOST RETURNED CANCELLED."""

    tenant: str
    job_id: str
    task: str
    assignment: int
    execution_id: str
    attempt: int
    cause: str
    ready_at_ms: int
    worker: str | None
    incarnation: str | None
    assigned_at_ms: int | None
    started_at_ms: int | None
    ended_at_ms: int | None
    outcome: str | None
    error_type: str | None
    error: Opaque | None
    reason: str | None
    retry_at_ms: int | None


_mapper = EventMapper()


class EventRow(RowStruct, frozen=True, kw_only=True):
    """An event as it stands in the log; `data` is the record's value, JSON text."""

    partition: int
    seq: int
    stream: str
    version: int
    type: str
    at_ms: int
    command_id: str
    actor_kind: str
    data: str

    def record(self) -> EventRecord:
        """The event, typed. Raises UnknownEventTypeError when a later release wrote it."""
        return _mapper.read(self.type, self.data.encode())


class QueueRow(RowStruct, frozen=True, kw_only=True):
    """A queue: settings, what was counted since it exists, and what waits or is held now."""

    tenant: str
    name: str
    description: str
    max_waiting_bytes: int
    created_at_ms: int
    updated_at_ms: int
    enqueued: int
    assigned: int
    released: int
    withdrawn: int
    waiting: int
    waiting_bytes: int
    held: int
    version: int
    partition: int
    seq: int


class WorkerRow(RowStruct, frozen=True, kw_only=True):
    """A worker incarnation as one queue knows it."""

    tenant: str
    queue: str
    worker: str
    incarnation: str
    pool: str
    credits: int
    held: int
    handlers: list[str]
    lost: bool
    registered_at_ms: int
    lost_at_ms: int | None

    @property
    def cursor(self) -> tuple[str, str]:
        """The worker's place in `workers`."""
        return self.incarnation, self.queue


class PositionRow(RowStruct, frozen=True, kw_only=True):
    """How far a partition is applied."""

    partition: int
    seq: int
    next_offset: int
    last_event_at_ms: int
    updated_at_ms: int


class Overdue(RowStruct, frozen=True, kw_only=True):
    """Jobs that are past their due time and not ready yet."""

    count: int
    oldest_due_at_ms: int | None
