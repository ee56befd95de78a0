"""How the events of a job change its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobledger.domain.job import events as e
from jobledger.domain.job.lifecycle import status_after
from jobledger.domain.job.state import MAIN_TASK, Job, JobStatus, Task
from jobledger.domain.spec import JobSpec
from jobledger.domain.values import Lineage, carrier

_job = carrier(JobSpec, Job, "lineage", "tasks")


def create(stream: str, event: e.JobSubmitted, lineage: Lineage) -> Job:
    """The job after its first event."""
    return _job(
        event,
        id=stream,
        version=1,
        submitted_at_ms=event.submitted_at_ms,
        due_at_ms=event.due_at_ms,
        status=JobStatus.SCHEDULED,
        lineage=lineage,
        tasks={MAIN_TASK: Task()},
    )


def _on_ready(job: Job, event: e.TaskReady) -> None:
    task = job.main
    task.attempt, task.assignment = event.attempt, event.assignment
    task.ready_at_ms, task.retry_at_ms = event.ready_at_ms, None
    task.worker, task.started = None, False
    task.started_at_ms, task.timeout_at_ms = 0, None


def _on_started(job: Job, event: e.TaskStarted) -> None:
    job.main.started, job.main.worker, job.main.unstarted = True, event.worker, 0
    if event.timeout_at_ms is not None:
        job.main.started_at_ms, job.main.timeout_at_ms = event.started_at_ms, event.timeout_at_ms


def _on_checkpoint_saved(job: Job, event: e.TaskCheckpointSaved) -> None:
    job.main.checkpoint = event.checkpoint


def _on_failed(job: Job, event: e.TaskFailed) -> None:
    _wait_for_retry(job, event.retry_at_ms)


def _on_lost(job: Job, event: e.TaskLost) -> None:
    if event.before_start:
        job.main.unstarted += 1
    _wait_for_retry(job, event.retry_at_ms)


def _wait_for_retry(job: Job, at_ms: int | None) -> None:
    if at_ms is not None:
        job.main.retry_at_ms = at_ms


def _on_returned(job: Job, event: e.TaskReturned) -> None:
    job.main.unstarted += 1


def _on_cancel_requested(job: Job, event: e.JobCancelRequested) -> None:
    if not job.main.started:
        job.main.timeout_at_ms = event.timeout_at_ms


def _on_redriven(job: Job, event: e.JobRedriven) -> None:
    """Attempts and hand-outs without a start are counted anew; assignments go on, and so does the checkpoint."""
    job.run, job.ended_at_ms = event.run, None
    job.main.attempt = job.main.unstarted = 0


def _on_discarded(job: Job, event: e.JobDiscarded) -> None:
    job.ended_at_ms = event.discarded_at_ms


def _on_ended(job: Job, event: e.JobSucceeded | e.JobCancelled | e.JobDeadLettered) -> None:
    job.ended_at_ms = event.ended_at_ms


def _unchanged(job: Job, event: e.JobEvent) -> None:
    """The event that follows in the same decision carries the change of state."""


_CHANGES: dict[type[e.JobEvent], Callable[[Job, Any], None]] = {
    e.TaskReady: _on_ready,
    e.TaskStarted: _on_started,
    e.TaskCheckpointSaved: _on_checkpoint_saved,
    e.TaskSucceeded: _unchanged,
    e.TaskFailed: _on_failed,
    e.TaskLost: _on_lost,
    e.TaskReturned: _on_returned,
    e.TaskCancelled: _unchanged,
    e.JobCancelRequested: _on_cancel_requested,
    e.JobSucceeded: _on_ended,
    e.JobDeadLettered: _on_ended,
    e.JobCancelled: _on_ended,
    e.JobRedriven: _on_redriven,
    e.JobDiscarded: _on_discarded,
}


def _with_status(change: Callable[[Job, Any], None]) -> Callable[[Job, Any], None]:
    def evolve(job: Job, event: e.JobEvent) -> None:
        change(job, event)
        job.status = status_after(job.status, event) or job.status

    return evolve


EVOLVE = {event: _with_status(change) for event, change in _CHANGES.items()}
