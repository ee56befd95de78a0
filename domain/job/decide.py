"""The job: a DAG of one or more tasks. A plain job has one, named `main`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from jobledger.domain.effects import Effect, FollowUp
from jobledger.domain.identity import execution_id, invalid_name, is_name, queue_stream, split_stream
from jobledger.domain.job import commands as c
from jobledger.domain.job import events as e
from jobledger.domain.job.retry import MAX_DISPATCHES_WITHOUT_START, gives_up, retry_at_ms, timeout_at_ms
from jobledger.domain.job.state import MAIN_TASK, OUT, RUN, TERMINAL, Job, JobStatus, next_timer_ms
from jobledger.domain.queue import commands as q
from jobledger.domain.queue.commands import ReleaseOutcome
from jobledger.domain.spec import JobSpec, TaskSpec
from jobledger.domain.values import Answer, Code, Opaque, Rejection, carrier

_submitted = carrier(JobSpec, e.JobSubmitted)
_enqueue = carrier(TaskSpec, q.EnqueueTask, "traceparent", "correlation_id", "checkpoint", "start_first")


def _reject_state(action: str, job: Job) -> Rejection:
    code = Code.ALREADY_ENDED if job.status in TERMINAL else Code.INVALID_STATE
    return _not_in(job.id, job.status, action, code)


def _not_in(stream: str, status: str, action: str, code: Code) -> Rejection:
    message = f"Expected to {action} job '{stream}', but it is {status}."
    return Rejection(code=code, message=message, field="id", value=stream)


_ACTIONS: dict[type[Any], str] = {c.CancelJob: "cancel", c.RedriveJob: "redrive", c.DiscardJob: "discard"}


def ended_job(stream: str, status: str, command: Any) -> Rejection:
    """The rejection of a user's command to a job of which only a stub is left."""
    return _not_in(stream, status, _ACTIONS.get(type(command), "change"), Code.ALREADY_ENDED)


def _execution(job: Job) -> str:
    return execution_id(job.id, MAIN_TASK, job.run)


def _ready(job: Job, now: int, cause: e.ReadyCause, *, counts: bool) -> e.TaskReady:
    """The task goes (again) to its queue; `counts` says whether this hand-out is a new attempt."""
    task = job.main
    return e.TaskReady(
        task=MAIN_TASK,
        execution_id=_execution(job),
        attempt=task.attempt + (1 if counts else 0),
        assignment=task.assignment + 1,
        ready_at_ms=now,
        due_at_ms=job.due_at_ms,
        cause=cause,
    )


# -- decide -----------------------------------------------------------------------------------------------------------


def _submit(stream: str, command: c.SubmitJob, now: int) -> list[e.JobEvent] | Rejection:
    split_stream(stream)  # raises ValueError for an id of another form: such a command is set aside
    if not is_name(command.queue):
        return invalid_name("queue", command.queue)
    due = max(command.due_at_ms or now, now)
    submitted = _submitted(command, submitted_at_ms=now, due_at_ms=due)
    if due > now:
        return [submitted]
    ready = e.TaskReady(
        task=MAIN_TASK,
        execution_id=execution_id(stream, MAIN_TASK, RUN),
        attempt=1,
        assignment=1,
        ready_at_ms=now,
        due_at_ms=now,
        cause=e.ReadyCause.DUE,
    )
    return [submitted, ready]


def _cancel(job: Job, command: c.CancelJob, now: int) -> list[e.JobEvent] | Rejection:
    if job.status is JobStatus.DEAD_LETTERED:
        return _not_in(job.id, f"{job.status}: redrive or discard it", "cancel", Code.ALREADY_ENDED)
    if job.status in TERMINAL:
        return _reject_state("cancel", job)
    if job.status is JobStatus.CANCELLING:
        return []
    if job.status in (JobStatus.SCHEDULED, JobStatus.RETRYING):
        return [e.JobCancelled(ended_at_ms=now, reason=command.reason)]
    limit = None if job.main.started else timeout_at_ms(job.timeout_seconds, now)
    return [e.JobCancelRequested(requested_at_ms=now, reason=command.reason, timeout_at_ms=limit)]


def _only_dead_letters(action: str, job: Job) -> Rejection | None:
    if job.status is JobStatus.DEAD_LETTERED:
        return None
    return _reject_state(action, job)


def _redrive(job: Job, command: c.RedriveJob, now: int) -> list[e.JobEvent] | Rejection:
    refused = _only_dead_letters("redrive", job)
    if refused:
        return refused
    ready = e.TaskReady(
        task=MAIN_TASK,
        execution_id=execution_id(job.id, MAIN_TASK, job.run + 1),
        attempt=1,
        assignment=job.main.assignment + 1,
        ready_at_ms=now,
        due_at_ms=job.due_at_ms,
        cause=e.ReadyCause.REDRIVEN,
    )
    return [e.JobRedriven(redriven_at_ms=now, run=job.run + 1, reason=command.reason), ready]


def _discard(job: Job, command: c.DiscardJob, now: int) -> list[e.JobEvent] | Rejection:
    refused = _only_dead_letters("discard", job)
    return refused or [e.JobDiscarded(discarded_at_ms=now, reason=command.reason)]


def _mark_due(job: Job, command: c.MarkDue, now: int) -> list[e.JobEvent] | Rejection:
    wanted = next_timer_ms(job)
    if wanted is None or wanted != command.due_at_ms:
        return _reject_state("wake", job)
    if wanted > now:
        return Rejection(code=Code.INVALID_STATE, message=f"Job '{job.id}' is not due before {wanted}.")
    if job.status is JobStatus.SCHEDULED:
        return [_ready(job, now, e.ReadyCause.DUE, counts=True)]
    if job.status is JobStatus.RETRYING:
        return [_ready(job, now, e.ReadyCause.RETRY, counts=True)]
    return _out_of_time(job, now)


def _out_of_time(job: Job, now: int) -> list[e.JobEvent]:
    """Nobody has reported the end of what is out: the owner ends it. A later report is stale."""
    task, execution = job.main, _execution(job)
    cancelling = job.status is JobStatus.CANCELLING
    if not task.started:  # only a cancel request sets a limit before the start
        lost = e.TaskLost(
            task=MAIN_TASK,
            execution_id=execution,
            attempt=task.attempt,
            assignment=task.assignment,
            worker=task.worker or "",
            lost_at_ms=now,
            before_start=True,
        )
        return [lost, e.JobCancelled(ended_at_ms=now)]
    since = task.started_at_ms or task.ready_at_ms
    error = f"No end was reported within {(now - since) / 1000:.0f} s of the start; the attempt was ended."
    failed = e.TaskFailed(
        task=MAIN_TASK,
        execution_id=execution,
        attempt=task.attempt,
        assignment=task.assignment,
        worker=task.worker or "",
        started_at_ms=since,
        ended_at_ms=now,
        kind=c.FailureKind.TIMEOUT,
        error_type="Timeout",
        error=Opaque(msgspec.json.encode({"message": error}).decode()),
        retry_at_ms=None if cancelling else retry_at_ms(job.retry, task.attempt, execution, now),
        by_owner=True,
    )
    return [failed, *_after_failure(job, failed, now)]


def _after_failure(job: Job, failed: e.TaskFailed, now: int) -> list[e.JobEvent]:
    """What a failed attempt means for the job, beside the retry that stands in the event."""
    if job.status is JobStatus.CANCELLING:
        return [e.JobCancelled(ended_at_ms=now)]
    if failed.retry_at_ms is None:
        cause = e.DeadLetterCause(failed.kind.value)
        return [e.JobDeadLettered(ended_at_ms=now, cause=cause, attempts=failed.attempt)]
    return []


def _stale(job: Job, assignment: int) -> Rejection | None:
    """A report counts only for the assignment that is out now: the fencing token."""
    if job.status in OUT and assignment == job.main.assignment:
        return None
    return Rejection(
        code=Code.STALE_ASSIGNMENT,
        message=f"Expected a report on assignment {job.main.assignment} of job '{job.id}' while it is out, "
        f"but got {assignment} while the job is {job.status}.",
        field="assignment",
        value=str(assignment),
    )


def _started(
    job: Job,
    report: c.ReportStarted | c.ReportCheckpoint | c.ReportSucceeded | c.ReportFailed | c.ReportCrashed,
    timeout_at: int | None = None,
) -> list[e.JobEvent]:
    """The start, unless it was reported before: short tasks report start and end in one."""
    if job.main.started:
        return []
    return [
        e.TaskStarted(
            task=report.task,
            execution_id=_execution(job),
            attempt=job.main.attempt,
            assignment=report.assignment,
            worker=report.worker,
            incarnation=report.incarnation,
            assigned_at_ms=report.assigned_at_ms,
            started_at_ms=report.started_at_ms,
            timeout_at_ms=timeout_at,
            cancelling=job.status is JobStatus.CANCELLING,
        )
    ]


def _report_started(job: Job, report: c.ReportStarted, now: int) -> list[e.JobEvent] | Rejection:
    return _stale(job, report.assignment) or _started(job, report, timeout_at_ms(job.timeout_seconds, now))


def _report_checkpoint(job: Job, report: c.ReportCheckpoint, now: int) -> list[e.JobEvent] | Rejection:
    stale = _stale(job, report.assignment)
    if stale:
        return stale
    size = len(report.checkpoint.data.encode())
    if size > c.MAX_CHECKPOINT_BYTES:
        return Rejection(
            code=Code.INVALID,
            message=f"Expected a checkpoint of at most {c.MAX_CHECKPOINT_BYTES} bytes, but got {size}.",
            field="checkpoint",
            value=str(size),
        )
    saved = e.TaskCheckpointSaved(
        task=report.task,
        execution_id=_execution(job),
        attempt=job.main.attempt,
        assignment=report.assignment,
        worker=report.worker,
        saved_at_ms=report.saved_at_ms,
        checkpoint=report.checkpoint,
    )
    return [*_started(job, report, timeout_at_ms(job.timeout_seconds, now)), saved]


def _report_succeeded(job: Job, report: c.ReportSucceeded, now: int) -> list[e.JobEvent] | Rejection:
    stale = _stale(job, report.assignment)
    if stale:
        return stale
    succeeded = e.TaskSucceeded(
        task=report.task,
        execution_id=_execution(job),
        attempt=job.main.attempt,
        assignment=report.assignment,
        worker=report.worker,
        started_at_ms=report.started_at_ms,
        ended_at_ms=report.ended_at_ms,
        result=report.result,
    )
    return [*_started(job, report), succeeded, e.JobSucceeded(ended_at_ms=now)]


def _report_failed(job: Job, report: c.ReportFailed, now: int) -> list[e.JobEvent] | Rejection:
    stale = _stale(job, report.assignment)
    if stale:
        return stale
    execution, attempt = _execution(job), job.main.attempt
    cancelling = job.status is JobStatus.CANCELLING
    retry_at = None
    final = cancelling or not report.retryable or gives_up(job.retry, report.error_type, report.error_bases)
    if not final:
        retry_at = retry_at_ms(job.retry, attempt, execution, now, report.retry_after_seconds)
    failed = e.TaskFailed(
        task=report.task,
        execution_id=execution,
        attempt=attempt,
        assignment=report.assignment,
        worker=report.worker,
        started_at_ms=report.started_at_ms,
        ended_at_ms=report.ended_at_ms,
        kind=report.kind,
        error_type=report.error_type,
        error=report.error,
        retry_at_ms=retry_at,
        retry_after_seconds=None if retry_at is None else report.retry_after_seconds,
    )
    return [*_started(job, report), failed, *_after_failure(job, failed, now)]


def _cancelled_task(job: Job, task: str, worker: str, now: int) -> list[e.JobEvent]:
    cancelled = e.TaskCancelled(
        task=task,
        execution_id=_execution(job),
        attempt=job.main.attempt,
        assignment=job.main.assignment,
        worker=worker,
        ended_at_ms=now,
    )
    return [cancelled, e.JobCancelled(ended_at_ms=now)]


def _report_cancelled(job: Job, report: c.ReportCancelled, now: int) -> list[e.JobEvent] | Rejection:
    stale = _stale(job, report.assignment)
    if stale:
        return stale
    if job.status is not JobStatus.CANCELLING:
        return _reject_state("end a cancelled task of", job)
    return _cancelled_task(job, report.task, report.worker, now)


def _withdrawn(job: Job, command: c.TaskWithdrawn, now: int) -> list[e.JobEvent] | Rejection:
    stale = _stale(job, command.assignment)
    if stale:
        return stale
    if job.status is not JobStatus.CANCELLING:
        return _reject_state("withdraw a task of", job)
    return _cancelled_task(job, command.task, "", now)


def _unstarted_again(job: Job, now: int, cause: e.ReadyCause) -> e.JobEvent:
    """After an assignment that ended before its start: hand it out again, or give up after too many."""
    if job.main.unstarted + 1 >= MAX_DISPATCHES_WITHOUT_START:
        return e.JobDeadLettered(ended_at_ms=now, cause=e.DeadLetterCause.DISPATCH_FAILED, attempts=job.main.attempt)
    return _ready(job, now, cause, counts=False)


def _report_returned(job: Job, report: c.ReportReturned, now: int) -> list[e.JobEvent] | Rejection:
    stale = _stale(job, report.assignment)
    if stale:
        return stale
    if job.main.started:
        return _reject_state("return a started task of", job)
    returned = e.TaskReturned(
        task=report.task,
        execution_id=_execution(job),
        attempt=job.main.attempt,
        assignment=report.assignment,
        worker=report.worker,
        returned_at_ms=now,
        reason=report.reason,
    )
    if job.status is JobStatus.CANCELLING:
        return [returned, e.JobCancelled(ended_at_ms=now)]
    return [returned, _unstarted_again(job, now, e.ReadyCause.RETURNED)]


def _attempt_lost(job: Job, command: c.AttemptLost, now: int) -> list[e.JobEvent] | Rejection:
    stale = _stale(job, command.assignment)
    if stale:
        return stale
    if job.main.started:
        return _lost(job, command, now, crashed=False)
    lost = e.TaskLost(
        task=command.task,
        execution_id=_execution(job),
        attempt=job.main.attempt,
        assignment=command.assignment,
        worker=command.worker,
        lost_at_ms=now,
        before_start=True,
    )
    if job.status is JobStatus.CANCELLING:
        return [lost, e.JobCancelled(ended_at_ms=now)]
    return [lost, _unstarted_again(job, now, e.ReadyCause.LOST)]


def _report_crashed(job: Job, report: c.ReportCrashed, now: int) -> list[e.JobEvent] | Rejection:
    return _stale(job, report.assignment) or [*_started(job, report), *_lost(job, report, now, crashed=True)]


def _lost(job: Job, command: c.AttemptLost | c.ReportCrashed, now: int, *, crashed: bool) -> list[e.JobEvent]:
    """The worker has gone while its handler ran, or may have run: that costs the attempt."""
    cancelling = job.status is JobStatus.CANCELLING
    attempt, execution = job.main.attempt, _execution(job)
    retry_at = None if cancelling else retry_at_ms(job.retry, attempt, execution, now)
    lost = e.TaskLost(
        task=command.task,
        execution_id=execution,
        attempt=attempt,
        assignment=command.assignment,
        worker=command.worker,
        lost_at_ms=now,
        before_start=False,
        retry_at_ms=retry_at,
        crashed=crashed,
    )
    if cancelling:
        return [lost, e.JobCancelled(ended_at_ms=now)]
    if retry_at is None:
        cause = e.DeadLetterCause.POISON if crashed else e.DeadLetterCause.LOST
        return [lost, e.JobDeadLettered(ended_at_ms=now, cause=cause, attempts=attempt)]
    return [lost]


def _query(job: Job, command: c.QueryJob, now: int) -> Answer:
    seen = {
        "status": job.status,
        "version": job.version,
        "attempt": job.main.attempt,
        "assignment": job.main.assignment,
        "worker": job.main.worker,
        "next_timer_ms": next_timer_ms(job),
    }
    return Answer(data=Opaque(msgspec.json.encode(seen).decode()))


_DECIDE: dict[type[c.JobCommand], Callable[[Job, Any, int], list[e.JobEvent] | Rejection | Answer]] = {
    c.CancelJob: _cancel,
    c.RedriveJob: _redrive,
    c.DiscardJob: _discard,
    c.MarkDue: _mark_due,
    c.ReportStarted: _report_started,
    c.ReportCheckpoint: _report_checkpoint,
    c.ReportSucceeded: _report_succeeded,
    c.ReportFailed: _report_failed,
    c.ReportCrashed: _report_crashed,
    c.ReportCancelled: _report_cancelled,
    c.ReportReturned: _report_returned,
    c.AttemptLost: _attempt_lost,
    c.TaskWithdrawn: _withdrawn,
    c.QueryJob: _query,
}


def decide(stream: str, job: Job | None, command: c.JobCommand, now: int) -> list[e.JobEvent] | Rejection | Answer:
    """What a command means for a job at time `now` (ms): events (none: nothing to change), a rejection, an answer.

    A creating command for a job that exists never reaches this: the owner answers it with the first outcome.
    """
    if isinstance(command, c.SubmitJob):
        if job is None:
            return _submit(stream, command, now)
        return Rejection(code=Code.ALREADY_EXISTS, message=f"Job '{stream}' exists.", field="id", value=stream)
    if job is None:
        return Rejection(
            code=Code.NOT_FOUND_OR_EXPIRED,
            message=f"No live job '{stream}': it was never submitted, or it ended.",
            field="id",
            value=split_stream(stream)[2],
        )
    return _DECIDE[type(command)](job, command, now)


# -- react ------------------------------------------------------------------------------------------------------------

_RELEASE_OUTCOME: dict[type[e.JobEvent], ReleaseOutcome] = {
    e.TaskSucceeded: ReleaseOutcome.ENDED,
    e.TaskFailed: ReleaseOutcome.ENDED,
    e.TaskLost: ReleaseOutcome.LOST,
    e.TaskReturned: ReleaseOutcome.RETURNED,
    e.TaskCancelled: ReleaseOutcome.ENDED,
}


def react(job: Job, event: e.JobEvent) -> list[Effect]:
    """What follows from an event; `job` is the state after it."""
    queue = queue_stream(split_stream(job.id)[1], job.queue)
    if isinstance(event, e.TaskReady):
        return [FollowUp(queue, _enqueued(job, event))]
    if isinstance(event, e.JobCancelRequested):
        return [FollowUp(queue, q.WithdrawTask(job=job.id, task=MAIN_TASK, assignment=job.main.assignment))]
    outcome = _RELEASE_OUTCOME.get(type(event))
    if outcome is None or (isinstance(event, e.TaskCancelled) and not event.worker):
        return []
    assert isinstance(event, e.AttemptEvent)
    release = q.ReleaseTask(job=job.id, task=event.task, assignment=event.assignment, outcome=outcome)
    if isinstance(event, e.TaskFailed) and event.by_owner:  # the worker may still be at it: it is told to stop
        withdraw = q.WithdrawTask(job=job.id, task=event.task, assignment=event.assignment)
        return [FollowUp(queue, withdraw), FollowUp(queue, release)]
    return [FollowUp(queue, release)]


def _enqueued(job: Job, event: e.TaskReady) -> q.EnqueueTask:
    return _enqueue(
        job,
        job=job.id,
        task=event.task,
        execution_id=event.execution_id,
        attempt=event.attempt,
        assignment=event.assignment,
        priority=job.priority,
        due_at_ms=job.due_at_ms,
        ready_at_ms=event.ready_at_ms,
        traceparent=job.traceparent,
        correlation_id=job.correlation_id,
        checkpoint=job.main.checkpoint,
        # More hand-outs than attempts: one ended without a known start, and its handler may have run.
        start_first=job.retry.max_attempts == 1 or event.assignment > event.attempt,
    )
