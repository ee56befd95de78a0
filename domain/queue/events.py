"""Events of a queue."""

from __future__ import annotations

from jobledger.domain.queue.commands import ReleaseOutcome
from jobledger.domain.queue.settings import QueueSettings
from jobledger.domain.spec import ReadyTask
from jobledger.domain.values import EventBody


class QueueEvent(EventBody, frozen=True, kw_only=True, tag_field="type"):
    """Base of the events of a queue."""


class QueueCreated(QueueSettings, QueueEvent, frozen=True, kw_only=True, tag="queue.created.v1"):
    """The queue exists: created by a user, or by the first task or worker that named it."""

    created_at_ms: int


class QueueUpdated(QueueSettings, QueueEvent, frozen=True, kw_only=True, tag="queue.updated.v1"):
    """The settings after the change, all of them."""

    updated_at_ms: int


class QueueTaskEvent(QueueEvent, frozen=True, kw_only=True):
    """What happened to one assignment of one task in this queue."""

    job: str
    task: str
    assignment: int


class TaskEnqueued(ReadyTask, QueueEvent, frozen=True, kw_only=True, tag="queue.task_enqueued.v1"):
    """The task waits in the queue."""

    enqueued_at_ms: int


class TaskAssigned(QueueTaskEvent, frozen=True, kw_only=True, tag="queue.task_assigned.v1"):
    """The task was sent to a worker, which holds a slot for it until the release."""

    execution_id: str
    attempt: int
    worker: str
    incarnation: str
    assigned_at_ms: int
    ready_at_ms: int
    due_at_ms: int
    priority: int


class TaskRemoved(QueueTaskEvent, frozen=True, kw_only=True, tag="queue.task_withdrawn.v1"):
    """A waiting task was taken out: for a cancel request, or because its job is done with this assignment."""

    withdrawn_at_ms: int


class TaskCancelSent(QueueTaskEvent, frozen=True, kw_only=True, tag="queue.task_cancel_sent.v1"):
    """The worker that holds the task was told to stop it."""

    worker: str
    incarnation: str
    sent_at_ms: int


class TaskReleased(QueueTaskEvent, frozen=True, kw_only=True, tag="queue.task_released.v1"):
    """The assignment is over and its slot is free."""

    worker: str
    incarnation: str
    outcome: ReleaseOutcome
    released_at_ms: int


class CreditsSet(QueueEvent, frozen=True, kw_only=True, tag="queue.credits_set.v1"):
    """A worker registered, or changed what it takes from this queue."""

    worker: str
    incarnation: str
    pool: str
    credits: int
    handlers: list[str]
    set_at_ms: int


class WorkerLost(QueueEvent, frozen=True, kw_only=True, tag="queue.worker_lost.v1"):
    """The lease of a worker expired. `lost` names the assignments that were reported to their jobs with this."""

    worker: str
    incarnation: str
    lost_at_ms: int
    lost: list[str]


class WorkerRemoved(QueueEvent, frozen=True, kw_only=True, tag="queue.worker_removed.v1"):
    """A worker left after it had ended all its tasks, or a lost one holds none any more."""

    worker: str
    incarnation: str
    removed_at_ms: int


AnyQueueEvent = (
    QueueCreated
    | QueueUpdated
    | TaskEnqueued
    | TaskAssigned
    | TaskRemoved
    | TaskReleased
    | TaskCancelSent
    | CreditsSet
    | WorkerLost
    | WorkerRemoved
)
