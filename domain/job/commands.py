"""Commands to a job. Each is the body of a command record; its `type` tag is its explicit name."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from jobledger.domain.spec import JobSpec
from jobledger.domain.values import CommandBody, Id, Lineage, Millis, Opaque, Priority, RetryPolicy


class JobCommand(CommandBody, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=False):
    """Base of the commands that a job decides."""


class SubmitJob(JobSpec, JobCommand, frozen=True, kw_only=True, tag="job.submit.v1"):
    """Create a job. `due_at_ms` None or in the past: it is due at once."""

    creating: ClassVar[bool] = True

    priority: Priority = 3
    retry: RetryPolicy = RetryPolicy()
    due_at_ms: Millis | None = None
    lineage: Lineage = Lineage()


class RedriveJob(JobCommand, frozen=True, kw_only=True, tag="job.redrive.v1"):
    """Run a dead-lettered job again: same id, a new run with all its attempts, from its last checkpoint."""

    remembered: ClassVar[bool] = True

    reason: Opaque | None = None


class DiscardJob(JobCommand, frozen=True, kw_only=True, tag="job.discard.v1"):
    """Close a dead-lettered job for good: nothing more is to be done about it."""

    remembered: ClassVar[bool] = True

    reason: Opaque | None = None


class CancelJob(JobCommand, frozen=True, kw_only=True, tag="job.cancel.v1"):
    """Stop a job: at once when no worker can hold it, else by asking its queue and its worker."""

    remembered: ClassVar[bool] = True

    reason: Opaque | None = None


class MarkDue(JobCommand, frozen=True, kw_only=True, tag="job.mark_due.v1"):
    """A timer of the job has come due: its start time, the end of its back-off, or the limit of its attempt."""

    task: Id
    due_at_ms: Millis


class TaskReport(JobCommand, frozen=True, kw_only=True):
    """What a worker says of one assignment; `assignment` is the fencing token."""

    task: Id
    assignment: int
    worker: Id
    incarnation: Id


class ReportStarted(TaskReport, frozen=True, kw_only=True, tag="job.report_started.v1"):
    """The handler has been started."""

    assigned_at_ms: Millis
    started_at_ms: Millis


class ReportSucceeded(TaskReport, frozen=True, kw_only=True, tag="job.report_succeeded.v1"):
    """The handler returned. Start and end are the worker's clock and stand in one report for short tasks."""

    assigned_at_ms: Millis
    started_at_ms: Millis
    ended_at_ms: Millis
    result: Opaque | None = None


#: Bytes of a checkpoint's text; it travels with every later hand-out of the task.
MAX_CHECKPOINT_BYTES = 64 * 1024


class ReportCheckpoint(TaskReport, frozen=True, kw_only=True, tag="job.report_checkpoint.v1"):
    """The handler has come this far; the next attempt gets `checkpoint` (at most 64 KiB) to go on from."""

    assigned_at_ms: Millis
    started_at_ms: Millis
    saved_at_ms: Millis
    checkpoint: Opaque


class FailureKind(StrEnum):
    """How an attempt failed."""

    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"


class ReportFailed(TaskReport, frozen=True, kw_only=True, tag="job.report_failed.v1"):
    """The handler raised or ran out of time. `retryable` False: no further attempt is of use.

    `error_bases` names the bases of the error's type, nearest first, for the policy's `give_up_on`.
    `retry_after_seconds`: the handler says itself how long to wait for the next attempt, which counts as any other.
    """

    assigned_at_ms: Millis
    started_at_ms: Millis
    ended_at_ms: Millis
    kind: FailureKind
    error_type: str
    error: Opaque
    retryable: bool = True
    error_bases: tuple[str, ...] = ()
    retry_after_seconds: float | None = None


class ReportCrashed(TaskReport, frozen=True, kw_only=True, tag="job.report_crashed.v1"):
    """From a later incarnation of the worker, or the process beside it: the worker died while it ran this handler.

    `worker` and `incarnation` are those that died. The attempt counts whether or not its start was reported.
    """

    assigned_at_ms: Millis
    started_at_ms: Millis


class ReportCancelled(TaskReport, frozen=True, kw_only=True, tag="job.report_cancelled.v1"):
    """The worker has stopped, or never started, a task it was told to cancel."""

    ended_at_ms: Millis


class ReportReturned(TaskReport, frozen=True, kw_only=True, tag="job.report_returned.v1"):
    """The worker hands a task back without having started it: it is stopping, or cannot run the handler."""

    reason: str


class AttemptLost(JobCommand, frozen=True, kw_only=True, tag="job.attempt_lost.v1"):
    """From the queue: the lease of the worker that held this assignment has expired."""

    task: Id
    assignment: int
    worker: Id
    incarnation: Id


class TaskWithdrawn(JobCommand, frozen=True, kw_only=True, tag="job.task_withdrawn.v1"):
    """From the queue: the task was still waiting and has been taken out; no worker ever had it."""

    task: Id
    assignment: int


class QueryJob(JobCommand, frozen=True, kw_only=True, tag="job.query.v1"):
    """What the owner knows of the job now, from memory; no event, no version."""


AnyJobCommand = (
    SubmitJob
    | CancelJob
    | RedriveJob
    | DiscardJob
    | MarkDue
    | ReportStarted
    | ReportCheckpoint
    | ReportSucceeded
    | ReportFailed
    | ReportCrashed
    | ReportCancelled
    | ReportReturned
    | AttemptLost
    | TaskWithdrawn
    | QueryJob
)
