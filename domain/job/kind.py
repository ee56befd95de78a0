"""The job, as the register of aggregates has it."""

from __future__ import annotations

from typing import Any

from jobledger.domain.job import decide, evolve
from jobledger.domain.job.attempt_ends import ATTEMPT_ENDS
from jobledger.domain.job.commands import MarkDue, SubmitJob
from jobledger.domain.job.events import JobSubmitted
from jobledger.domain.job.lifecycle import status_after
from jobledger.domain.job.state import MAIN_TASK, Job, JobStatus, next_timer_ms, submitted_events
from jobledger.domain.kind import Ending, Kind, Origin, Recorded, Remains, Submission, Timer


def _create(record: Recorded) -> Job:
    job = evolve.create(record.originator_id, record.data, record.lineage)
    job.correlation_id, job.traceparent = record.correlation_id, record.traceparent
    return job


def _origin(job: Job | None, command: Any) -> Origin:
    if job is not None:
        return Origin(job.lineage, job.correlation_id, job.traceparent)
    return Origin(command.lineage) if isinstance(command, SubmitJob) else Origin()


def _mark_due(due_at_ms: int) -> MarkDue:
    return MarkDue(task=MAIN_TASK, due_at_ms=due_at_ms)


def _remains(job: Job) -> Remains | None:
    if not job.ended_with_stub:
        return None
    # The first one is as a rule that of the submission, which is told by its stream.
    recent = job.recent[-1:] if len(job.recent) > 1 or job.status is JobStatus.CANCELLED else []
    return Remains(job.status.value, job.ended_at_ms, recent)


JOB = Kind(
    name="job",
    snapshot=Job,
    created_by=JobSubmitted,
    create=_create,
    decide=decide.decide,
    evolve=evolve.EVOLVE,
    react=decide.react,
    packed=True,
    origin=_origin,
    status=lambda job: job.status,
    status_after=status_after,
    timer=Timer(next_timer_ms, _mark_due),
    submission=Submission(SubmitJob, JobSubmitted, submitted_events),
    ending=Ending(_remains, decide.ended_job),
    attempt_ends=ATTEMPT_ENDS,
)
