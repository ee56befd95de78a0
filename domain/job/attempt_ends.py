"""What the end of an attempt tells of its whole way, for whoever traces it."""

from __future__ import annotations

from typing import Any

from jobledger.domain.identity import execution_id, minted_ms, queue_stream, split_stream
from jobledger.domain.job import events as e
from jobledger.domain.job.commands import ReportReturned
from jobledger.domain.job.state import MAIN_TASK, RUN, Job
from jobledger.domain.kind import AttemptEnds, EndedAttempt

#: A job that is due at most this long after its submission is still what its submitter waits for.
WAITED_FOR_MS = 60_000


def waited_for(job: str, task: str, execution: str, attempt: int, assignment: int, due_at_ms: int) -> bool:
    """Whether an attempt is what the submitter of a job waits for: the first of its first run, and due at once."""
    if attempt != 1:
        return False
    # The first hand-out of all is of the first run; to work out the id of that costs ten times the rest.
    if assignment != 1 and execution != execution_id(job, task, RUN):
        return False
    made_at_ms = minted_ms(split_stream(job)[2])
    return made_at_ms is None or due_at_ms - made_at_ms <= WAITED_FOR_MS


def _ended(job: Job, execution: str, ended_at_ms: int, error: str, body: Any) -> EndedAttempt:
    task = job.main
    first = task.attempt == 1 and job.run == RUN
    waited = waited_for(job.id, MAIN_TASK, execution, task.attempt, task.assignment, job.due_at_ms)
    asked_at_ms = (job.submitted_at_ms if waited else job.due_at_ms) if first else task.ready_at_ms
    return EndedAttempt(
        execution_id=execution,
        attempt=task.attempt,
        assignment=task.assignment,
        submitter=job.traceparent or "",
        waited_for=waited,
        queue=queue_stream(split_stream(job.id)[1], job.queue),
        asked_at_ms=asked_at_ms,
        ready_at_ms=task.ready_at_ms,
        # Who ends an attempt by himself knows no more than when it was started.
        assigned_at_ms=getattr(body, "assigned_at_ms", 0) or task.started_at_ms or None,
        ended_at_ms=ended_at_ms,
        error=error,
    )


def _on_succeeded(job: Job, event: e.TaskSucceeded, body: Any, sampled: bool) -> EndedAttempt | None:
    return _ended(job, event.execution_id, event.ended_at_ms, "", body) if sampled else None


def _on_cancelled(job: Job, event: e.TaskCancelled, body: Any, sampled: bool) -> EndedAttempt | None:
    return _ended(job, event.execution_id, event.ended_at_ms, "", body) if sampled else None


def _on_failed(job: Job, event: e.TaskFailed, body: Any, sampled: bool) -> EndedAttempt:
    return _ended(job, event.execution_id, event.ended_at_ms, event.kind.value, body)


def _on_lost(job: Job, event: e.TaskLost, body: Any, sampled: bool) -> EndedAttempt:
    return _ended(job, event.execution_id, event.lost_at_ms, "LOST", body)


def _on_dead_lettered(job: Job, event: e.JobDeadLettered, body: Any, sampled: bool) -> EndedAttempt | None:
    """Of one that was handed back too often; every other cause has an event of the attempt before it."""
    if event.cause is not e.DeadLetterCause.DISPATCH_FAILED or not isinstance(body, ReportReturned):
        return None
    return _ended(job, execution_id(job.id, MAIN_TASK, job.run), event.ended_at_ms, event.cause.value, body)


ATTEMPT_ENDS: AttemptEnds = {
    e.TaskSucceeded: _on_succeeded,
    e.TaskCancelled: _on_cancelled,
    e.TaskFailed: _on_failed,
    e.TaskLost: _on_lost,
    e.JobDeadLettered: _on_dead_lettered,
}
