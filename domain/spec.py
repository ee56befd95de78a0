"""What travels whole: the spec of a job from its submission to its state, that of a task on to its worker.

Commands, events, states and worker messages are made of these values by inheritance, so that a field of a spec is a
field of all of them, under the same name on the wire. It goes from one to the next by `values.carrier`.
A field that is added needs a default: records that were written before it don't have it.
"""

from __future__ import annotations

from jobledger.domain.values import Id, Millis, Opaque, Passed, Priority, RetryPolicy, StreamId, Value


class TaskSpec(Value, frozen=True, kw_only=True):
    """What a worker is told of the work: how the user wants a task to be run. `timeout_seconds` is of one attempt."""

    handler: Id
    payload: Opaque
    timeout_seconds: float | None = None


class JobSpec(TaskSpec, frozen=True, kw_only=True):
    """A job as its user wants it. `key_digest` is that of its idempotency key, `request_digest` that of the request.

    `expected_duration_seconds`: how long it is expected to take, from due to its end; service levels alone go by it.
    """

    queue: Id
    priority: Priority
    retry: RetryPolicy
    key_digest: Id | None = None
    request_digest: Id | None = None
    expected_duration_seconds: float | None = None


class Assignment(TaskSpec, frozen=True, kw_only=True):
    """One assignment of a task, from its job through its queue to the worker."""

    job: StreamId
    task: Id
    assignment: int
    execution_id: Id
    attempt: int
    due_at_ms: Millis
    traceparent: Passed | None = None
    correlation_id: Passed | None = None
    checkpoint: Opaque | None = None
    start_first: bool = False


class ReadyTask(Assignment, frozen=True, kw_only=True):
    """An assignment as its queue has it: with what decides when it is handed out."""

    priority: Priority
    ready_at_ms: Millis
