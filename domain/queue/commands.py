"""Commands to a queue."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from jobledger.domain.queue.settings import QueueChanges, QueueSettings
from jobledger.domain.spec import ReadyTask
from jobledger.domain.values import CommandBody, Id, Passed, StreamId


class QueueCommand(CommandBody, frozen=True, kw_only=True, tag_field="type"):
    """Base of the commands that a queue decides."""


class CreateQueue(QueueSettings, QueueCommand, frozen=True, kw_only=True, tag="queue.create.v1"):
    """Create a queue. `max_waiting_bytes` bounds the payload bytes that wait in it; the api
    refuses submissions over it, by what the read model shows. A task of an accepted job is always taken in."""

    creating: ClassVar[bool] = True
    remembered: ClassVar[bool] = True


class UpdateQueue(QueueChanges, QueueCommand, frozen=True, kw_only=True, tag="queue.update.v1"):
    """Change settings of a queue; None leaves one as it is."""

    remembered: ClassVar[bool] = True


class TaskRef(QueueCommand, frozen=True, kw_only=True):
    """Names one assignment of one task of a job."""

    job: StreamId
    task: Id
    assignment: int


class EnqueueTask(ReadyTask, QueueCommand, frozen=True, kw_only=True, tag="queue.enqueue_task.v1"):
    """From a job: a task is ready and may be handed out once, under this assignment number."""


class WithdrawTask(TaskRef, frozen=True, kw_only=True, tag="queue.withdraw_task.v1"):
    """From a job that is being cancelled: take the task out, or tell the worker that holds it."""


class ReleaseOutcome(StrEnum):
    """How an assignment ended, as far as the queue is concerned."""

    ENDED = "ENDED"
    LOST = "LOST"
    RETURNED = "RETURNED"


class ReleaseTask(TaskRef, frozen=True, kw_only=True, tag="queue.release_task.v1"):
    """From a job: the assignment is over. This alone frees the worker's slot."""

    outcome: ReleaseOutcome


class SetCredits(QueueCommand, frozen=True, kw_only=True, tag="queue.set_credits.v1"):
    """From a worker: how many tasks of this queue it holds at once at most; the first one registers it.

    `handlers` names what it can run; `credits` 0 means: nothing more, I am stopping.
    """

    worker: Id
    incarnation: Id
    pool: Id
    credits: int
    handlers: list[Id]


class RemoveWorker(QueueCommand, frozen=True, kw_only=True, tag="queue.remove_worker.v1"):
    """From a worker that has ended all its tasks and leaves."""

    worker: Id
    incarnation: Id


class ExpireLease(QueueCommand, frozen=True, kw_only=True, tag="queue.expire_lease.v1"):
    """From the owner: a worker has not been heard of for a whole lease."""

    worker: Id
    incarnation: Id


class DispatchTasks(QueueCommand, frozen=True, kw_only=True, tag="queue.dispatch.v1"):
    """From the queue to itself, once per batch: hand out what can be handed out."""


class QueryQueue(QueueCommand, frozen=True, kw_only=True, tag="queue.query.v1"):
    """What the owner knows of the queue now: depth, workers; where given, why `job` waits, how many serve `handler`."""

    job: StreamId | None = None
    handler: Passed | None = None


AnyQueueCommand = (
    CreateQueue
    | UpdateQueue
    | EnqueueTask
    | WithdrawTask
    | ReleaseTask
    | SetCredits
    | RemoveWorker
    | ExpireLease
    | DispatchTasks
    | QueryQueue
)
