"""What a queue says to a worker, and a worker to the queues: the worker protocol's messages."""

from __future__ import annotations

from jobledger.domain.values import Id, Opaque, Value


class WorkerMessage(Value, frozen=True, kw_only=True, tag_field="type"):
    """Base of the messages in a worker's inbox. Every worker but the named incarnation drops them."""

    worker: str
    incarnation: str


class RunTask(WorkerMessage, frozen=True, kw_only=True, tag="worker.run_task.v1"):
    """Run a handler. A repeat of (`job`, `task`, `assignment`) is to be dropped.

    `start_first`: ReportStarted has to be on the log before the handler runs, since an uncounted run would be one
    too many: the policy allows one attempt, or a hand-out of this job ended before its start was known.
    """

    job: str
    task: str
    execution_id: str
    attempt: int
    assignment: int
    handler: str
    queue: str
    payload: Opaque
    due_at_ms: int
    assigned_at_ms: int
    timeout_seconds: float | None = None
    traceparent: str | None = None
    correlation_id: str | None = None
    checkpoint: Opaque | None = None
    start_first: bool = False


class CancelTask(WorkerMessage, frozen=True, kw_only=True, tag="worker.cancel_task.v1"):
    """Stop a task, or don't start it; answer the job with ReportCancelled."""

    job: str
    task: str
    assignment: int


class Heartbeat(Value, frozen=True, kw_only=True):
    """One record per worker and interval on the heartbeats topic, for all its queues and tasks."""

    worker: Id
    incarnation: Id
    sent_at_ms: int
    running: int = 0
    #: Of a scheduler: the partitions that it serves, and those assigned to it.
    serves: list[int] | None = None
    holds: list[int] | None = None


AnyWorkerMessage = RunTask | CancelTask
