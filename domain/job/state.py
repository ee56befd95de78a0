"""State of a job."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from jobledger.domain.job.retry import unnoted_timeout_at_ms
from jobledger.domain.spec import JobSpec
from jobledger.domain.values import Lineage, Opaque

MAIN_TASK = "main"
RUN = 1


class JobStatus(StrEnum):
    """Where a job stands. The last four end it; a dead-lettered job can be run again."""

    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    DEAD_LETTERED = "DEAD_LETTERED"
    CANCELLED = "CANCELLED"
    DISCARDED = "DISCARDED"


#: Statuses that nothing follows: only a stub of the job is kept.
FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.CANCELLED, JobStatus.DISCARDED})
TERMINAL = FINAL | {JobStatus.DEAD_LETTERED}
#: Statuses in which an assignment is out: waiting in the queue or held by a worker.
OUT = frozenset({JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.CANCELLING})


class Task(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """State of one task of a job."""

    attempt: int = 0
    assignment: int = 0
    unstarted: int = 0
    ready_at_ms: int = 0
    retry_at_ms: int | None = None
    worker: str | None = None
    started: bool = False
    #: When the handler started, by the worker's clock, and when the owner ends the attempt by its own.
    started_at_ms: int = 0
    timeout_at_ms: int | None = None
    checkpoint: Opaque | None = None


class Job(JobSpec, frozen=False, kw_only=True):  # type: ignore[misc]  # msgspec lets a state change its own
    """State of a job; `version` counts its events."""

    id: str
    version: int
    submitted_at_ms: int
    due_at_ms: int
    status: JobStatus
    lineage: Lineage = Lineage()
    created_seq: int = 0
    ended_at_ms: int | None = None
    tasks: dict[str, Task] = {}
    #: 1, and one more with each redrive.
    run: int = RUN
    correlation_id: str | None = None
    traceparent: str | None = None
    recent: list[str] = []

    class_version = 1

    @property
    def head(self) -> Job:
        """The job itself: nothing is stored beside it."""
        return self

    @property
    def ended_with_stub(self) -> bool:
        """Ended for good: only a stub of it is kept. A dead-lettered job is kept whole."""
        return self.status in FINAL

    @property
    def main(self) -> Task:
        """The only task of a plain job."""
        return self.tasks[MAIN_TASK]


def submitted_events(job: Job) -> int:
    """How many events its submission left: with that of a task that was ready at once, or without."""
    return 2 if job.due_at_ms == job.submitted_at_ms else 1


def next_timer_ms(job: Job) -> int | None:
    """When the job wants to be woken: its start time, the end of its back-off, or the limit of what is out.

    None: not at all.
    """
    if job.status is JobStatus.SCHEDULED:
        return job.due_at_ms
    if job.status is JobStatus.RETRYING:
        return job.main.retry_at_ms
    if job.status not in OUT:
        return None
    task = job.main
    if task.timeout_at_ms is None and task.started:  # started before attempts had a limit
        return unnoted_timeout_at_ms(job.timeout_seconds, task.ready_at_ms)
    return task.timeout_at_ms
