"""What a queue says to a worker, and a worker to the queues: the worker protocol's messages."""

from __future__ import annotations

from jobledger.domain.spec import Assignment
from jobledger.domain.values import Id, Value


class WorkerMessage(Value, frozen=True, kw_only=True, tag_field="type"):
    """Base of the messages in a worker's inbox. Every worker but the named `incarnation` of `worker` drops them."""


class RunTask(Assignment, WorkerMessage, frozen=True, kw_only=True, tag="worker.run_task.v1"):
    """Run a handler. A repeat of (`job`, `task`, `assignment`) is to be dropped.

    `start_first`: ReportStarted has to be on the log before the handler runs, since an uncounted run would be one
    too many: the policy allows one attempt, or a hand-out of this job ended before its start was known.
    """

    worker: str
    incarnation: str
    queue: str
    assigned_at_ms: int


class CancelTask(WorkerMessage, frozen=True, kw_only=True, tag="worker.cancel_task.v1"):
    """Stop a task, or don't start it; answer the job with ReportCancelled."""

    worker: str
    incarnation: str
    job: str
    task: str
    assignment: int


class Heartbeat(Value, frozen=True, kw_only=True):
    """One record per worker and interval on the heartbeats topic, for all its queues and tasks."""

    worker: Id
    incarnation: Id
    sent_at_ms: int
    running: int = 0
    #: Of a scheduler: its slot, the partitions that it serves, and those assigned to it.
    scheduler: Id | None = None
    serves: list[int] | None = None
    holds: list[int] | None = None


AnyWorkerMessage = RunTask | CancelTask
