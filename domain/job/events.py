"""Events of a job. The tag is the public name of the type and ends in its schema version."""

from __future__ import annotations

from enum import StrEnum

from jobledger.domain.job.commands import FailureKind
from jobledger.domain.spec import JobSpec
from jobledger.domain.values import EventBody, Opaque


class JobEvent(EventBody, frozen=True, kw_only=True, tag_field="type"):
    """Base of the events of a job."""


class JobSubmitted(JobSpec, JobEvent, frozen=True, kw_only=True, tag="job.submitted.v1"):
    """The job exists. Its lineage and tags stand in the envelope of each of its events."""

    submitted_at_ms: int
    due_at_ms: int


class ReadyCause(StrEnum):
    """Why a task became ready."""

    DUE = "due"
    RETRY = "retry"
    LOST = "lost"
    RETURNED = "returned"
    REDRIVEN = "redriven"


class TaskReady(JobEvent, frozen=True, kw_only=True, tag="task.ready.v1"):
    """The task goes to its queue, to be handed out once under this assignment number."""

    task: str
    execution_id: str
    attempt: int
    assignment: int
    ready_at_ms: int
    due_at_ms: int
    cause: ReadyCause


class AttemptEvent(JobEvent, frozen=True, kw_only=True):
    """What happened to one assignment of a task."""

    task: str
    execution_id: str
    attempt: int
    assignment: int


class TaskStarted(AttemptEvent, frozen=True, kw_only=True, tag="task.started.v1"):
    """A worker runs the handler. `timeout_at_ms`: when the owner ends the attempt if nobody has reported its end;
    None where the end is in the log with the start. `cancelling`: somebody had asked to cancel the job, which stays so.
    """

    worker: str
    incarnation: str
    assigned_at_ms: int
    started_at_ms: int
    timeout_at_ms: int | None = None
    cancelling: bool = False


class TaskCheckpointSaved(AttemptEvent, frozen=True, kw_only=True, tag="task.checkpoint_saved.v1"):
    """The handler has come this far; later attempts of the task start with the last one of these."""

    worker: str
    saved_at_ms: int
    checkpoint: Opaque


class TaskSucceeded(AttemptEvent, frozen=True, kw_only=True, tag="task.succeeded.v1"):
    """The handler returned."""

    worker: str
    started_at_ms: int
    ended_at_ms: int
    result: Opaque | None = None


class TaskFailed(AttemptEvent, frozen=True, kw_only=True, tag="task.failed.v1"):
    """The attempt failed. `retry_at_ms` None: it was the last one.

    `by_owner`: nobody had reported its end when its time was over, so the owner ended it.
    `retry_after_seconds`: the wait that the handler asked for.
    """

    worker: str
    started_at_ms: int
    ended_at_ms: int
    kind: FailureKind
    error_type: str
    error: Opaque
    retry_at_ms: int | None = None
    by_owner: bool = False
    retry_after_seconds: float | None = None


class TaskLost(AttemptEvent, frozen=True, kw_only=True, tag="task.lost.v1"):
    """The worker was lost. Before the start it costs no attempt: `retry_at_ms` is then None, and the task is ready
    again at once (or, after too many such hand-outs, the job is dead-lettered). After the start: None, it was the last.
    `crashed`: the worker itself told afterwards that it died while it ran this handler.
    """

    worker: str
    lost_at_ms: int
    before_start: bool
    retry_at_ms: int | None = None
    crashed: bool = False


class TaskReturned(AttemptEvent, frozen=True, kw_only=True, tag="task.returned.v1"):
    """The worker handed the task back without starting it."""

    worker: str
    returned_at_ms: int
    reason: str


class TaskCancelled(AttemptEvent, frozen=True, kw_only=True, tag="task.cancelled.v1"):
    """The task was stopped, or taken out of its queue, for a cancel request."""

    worker: str
    ended_at_ms: int


class JobCancelRequested(JobEvent, frozen=True, kw_only=True, tag="job.cancel_requested.v1"):
    """Somebody wants the job to stop; its queue or worker has still to agree.

    `timeout_at_ms`: when the owner ends a task that was not started if neither has answered by then.
    """

    requested_at_ms: int
    reason: Opaque | None = None
    timeout_at_ms: int | None = None


class JobSucceeded(JobEvent, frozen=True, kw_only=True, tag="job.succeeded.v1"):
    """All tasks of the job succeeded. Terminal."""

    ended_at_ms: int


class JobCancelled(JobEvent, frozen=True, kw_only=True, tag="job.cancelled.v1"):
    """The job was cancelled: nothing of it starts after this. Terminal."""

    ended_at_ms: int
    reason: Opaque | None = None


class DeadLetterCause(StrEnum):
    """Why a job was given up."""

    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"
    DISPATCH_FAILED = "DISPATCH_FAILED"
    #: The worker died while it ran the handler, in the last attempt.
    POISON = "POISON"


class JobDeadLettered(JobEvent, frozen=True, kw_only=True, tag="job.dead_lettered.v1"):
    """The last attempt failed; the job is kept until somebody redrives or discards it."""

    ended_at_ms: int
    cause: DeadLetterCause
    attempts: int


class JobRedriven(JobEvent, frozen=True, kw_only=True, tag="job.redriven.v1"):
    """A dead-lettered job begins another run (2, 3 …), with all attempts of its policy; its task is ready at once."""

    redriven_at_ms: int
    run: int
    reason: Opaque | None = None


class JobDiscarded(JobEvent, frozen=True, kw_only=True, tag="job.discarded.v1"):
    """A dead-lettered job was given up by somebody. Terminal."""

    discarded_at_ms: int
    reason: Opaque | None = None


AnyJobEvent = (
    JobSubmitted
    | TaskReady
    | TaskStarted
    | TaskCheckpointSaved
    | TaskSucceeded
    | TaskFailed
    | TaskLost
    | TaskReturned
    | TaskCancelled
    | JobCancelRequested
    | JobSucceeded
    | JobDeadLettered
    | JobCancelled
    | JobRedriven
    | JobDiscarded
)
