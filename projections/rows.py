"""Rows of the read models: the one list of each table's columns. Times are ms since the epoch.

A new column stands here, in a migration, and in the fold of the events that set it.
"""

from __future__ import annotations

from jobledger.domain.identity import job_stream
from jobledger.domain.values import Lineage, Opaque, RetryPolicy
from jobledger.projections.columns import Changing, Counted, Fixed, InKey, Int16, Int32, RowStruct
from jobledger.projections.pages import JobCursor
from jobledger.schemas.events import EventMapper, EventRecord


class JobRow(RowStruct, frozen=True, kw_only=True):
    """A job. `attempt` 0: it was never ready yet."""

    tenant: InKey[str]
    id: InKey[str]
    handler: Fixed[str]
    queue: Fixed[str]
    priority: Fixed[Int16]
    retry: Fixed[RetryPolicy]
    timeout_seconds: Fixed[float | None]
    submitted_at_ms: Fixed[int]
    due_at_ms: Fixed[int]
    expected_duration_seconds: Fixed[float | None]
    payload: Fixed[Opaque | None]
    tags: Fixed[dict[str, str]]
    parent: Fixed[str | None]
    root: Fixed[str | None]
    retry_of: Fixed[str | None]
    schedule: Fixed[str | None]
    fire_at_ms: Fixed[int | None]
    workflow: Fixed[str | None]
    workflow_version: Fixed[Int32 | None]
    key_digest: Fixed[str | None]
    request_digest: Fixed[str | None]
    command_id: Fixed[str]
    actor_kind: Fixed[str]
    actor_id: Fixed[str]
    correlation_id: Fixed[str | None]
    traceparent: Fixed[str | None]
    partition: Fixed[Int32]
    status: Changing[str]
    attempt: Changing[Int32] = 0
    assignment: Changing[Int32] = 0
    ready_at_ms: Changing[int | None]
    started_at_ms: Changing[int | None]
    ended_at_ms: Changing[int | None]
    retry_at_ms: Changing[int | None]
    cancel_requested_at_ms: Changing[int | None]
    worker: Changing[str | None]
    result: Changing[Opaque | None]
    error_type: Changing[str | None]
    error: Changing[Opaque | None]
    cancel_reason: Changing[Opaque | None]
    checkpoint: Changing[Opaque | None]
    checkpoint_at_ms: Changing[int | None]
    dead_letter_cause: Changing[str | None]
    run: Changing[Int32] = 1
    version: Changing[int]
    seq: Changing[int]
    updated_at_ms: Changing[int]

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

    tenant: InKey[str]
    job_id: InKey[str]
    task: InKey[str]
    assignment: InKey[Int32]
    execution_id: Fixed[str]
    attempt: Fixed[Int32]
    cause: Fixed[str]
    ready_at_ms: Fixed[int]
    worker: Changing[str | None]
    incarnation: Changing[str | None]
    assigned_at_ms: Changing[int | None]
    started_at_ms: Changing[int | None]
    ended_at_ms: Changing[int | None]
    outcome: Changing[str | None]
    error_type: Changing[str | None]
    error: Changing[Opaque | None]
    reason: Changing[str | None]
    retry_at_ms: Changing[int | None]


class QueueRow(RowStruct, frozen=True, kw_only=True):
    """A queue: settings, what was counted since it exists, and what waits or is held now."""

    tenant: InKey[str]
    name: InKey[str]
    created_at_ms: Fixed[int]
    partition: Fixed[Int32]
    description: Changing[str]
    max_waiting_bytes: Changing[int]
    updated_at_ms: Changing[int]
    version: Changing[int]
    seq: Changing[int]
    enqueued: Counted[int] = 0
    assigned: Counted[int] = 0
    released: Counted[int] = 0
    withdrawn: Counted[int] = 0
    waiting: Counted[int] = 0
    waiting_bytes: Counted[int] = 0
    held: Counted[int] = 0


class WaitingTaskRow(RowStruct, frozen=True, kw_only=True):
    """A task that waits in its queue; the row goes when it is handed out or withdrawn."""

    tenant: InKey[str]
    queue: InKey[str]
    job: InKey[str]
    task: InKey[str]
    assignment: Fixed[Int32]
    priority: Fixed[Int16]
    handler: Fixed[str]
    bytes: Fixed[int]
    ready_at_ms: Fixed[int]


class WorkerRow(RowStruct, frozen=True, kw_only=True):
    """A worker incarnation as one queue knows it."""

    tenant: InKey[str]
    queue: InKey[str]
    incarnation: InKey[str]
    registered_at_ms: Fixed[int]
    worker: Changing[str]
    pool: Changing[str]
    credits: Changing[Int32]
    handlers: Changing[list[str]]
    lost: Changing[bool]
    lost_at_ms: Changing[int | None]
    held: Counted[int] = 0

    @property
    def cursor(self) -> tuple[str, str]:
        """The worker's place in `workers`."""
        return self.incarnation, self.queue


_mapper = EventMapper()


class EventRow(RowStruct, frozen=True, kw_only=True):
    """An event as it stands in the log; `data` is the record's value, JSON text."""

    partition: InKey[Int32]
    seq: InKey[int]
    stream: Fixed[str]
    version: Fixed[int]
    type: Fixed[str]
    at_ms: Fixed[int]
    command_id: Fixed[str]
    actor_kind: Fixed[str]
    data: Fixed[str]

    def record(self) -> EventRecord:
        """The event, typed. Raises UnknownEventTypeError when a later release wrote it."""
        return _mapper.read(self.type, self.data.encode())


class SetAsideRow(RowStruct, frozen=True, kw_only=True):
    """An event that changes no row, since the stream of a job that had ended began again."""

    partition: InKey[Int32]
    seq: InKey[int]
    stream: Fixed[str]
    version: Fixed[int]
    type: Fixed[str]
    at_ms: Fixed[int]
    reason: Fixed[str]


class JobSignalsRow(RowStruct, frozen=True, kw_only=True):
    """What happened to jobs in a span of time, by the time of the events; `service_levels` says what counts as what.

    There are spans of a minute and of an hour. `latency_…` counts first hand-outs by their time from due, each up to
    its name and over the one before.
    """

    partition: InKey[Int32]
    span_seconds: InKey[Int32]
    start_ms: InKey[int]
    due_on_time: Counted[int] = 0
    due_late: Counted[int] = 0
    due_excluded: Counted[int] = 0
    completed_within: Counted[int] = 0
    completed_over: Counted[int] = 0
    completed_excluded: Counted[int] = 0
    ended_success: Counted[int] = 0
    ended_failed: Counted[int] = 0
    ended_timeout: Counted[int] = 0
    ended_cancelled: Counted[int] = 0
    ended_lost: Counted[int] = 0
    latency_5ms: Counted[int] = 0
    latency_25ms: Counted[int] = 0
    latency_50ms: Counted[int] = 0
    latency_100ms: Counted[int] = 0
    latency_250ms: Counted[int] = 0
    latency_500ms: Counted[int] = 0
    latency_1s: Counted[int] = 0
    latency_2500ms: Counted[int] = 0
    latency_5s: Counted[int] = 0
    latency_10s: Counted[int] = 0
    latency_30s: Counted[int] = 0
    latency_60s: Counted[int] = 0
    latency_5min: Counted[int] = 0
    latency_30min: Counted[int] = 0
    latency_2h: Counted[int] = 0
    latency_12h: Counted[int] = 0
    latency_longer: Counted[int] = 0


class PositionRow(RowStruct, frozen=True, kw_only=True):
    """How far a partition is applied."""

    partition: int
    seq: int
    next_offset: int
    last_event_at_ms: int
    updated_at_ms: int
