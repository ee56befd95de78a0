"""The fold of a partition's events beside its state, over records in memory."""

from __future__ import annotations

from typing import Any

from jobledger.domain.job.events import JobSubmitted, ReadyCause, TaskReady
from jobledger.domain.job.state import JobStatus
from jobledger.domain.values import SYSTEM, Opaque, RetryPolicy
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.retained import Retained
from jobledger.replay.report import Report
from jobledger.replay.state import StateFold
from jobledger.schemas.events import EventRecord

STREAM = "job:default:0199"


def _record(version: int, event: Any, status_after: str | None) -> EventRecord:
    return EventRecord(
        id=f"0-{version}",
        originator_id=STREAM,
        originator_version=version,
        seq=version,
        tenant="default",
        at_ms=1,
        command_id="c",
        actor=SYSTEM,
        data=event,
        status_after=status_after,
    )


def test_an_event_that_tells_another_status_than_its_fold_is_found() -> None:
    """One that tells none is from before events did."""
    submitted = JobSubmitted(
        handler="h", queue="q", priority=1, payload=Opaque("{}"), submitted_at_ms=1, due_at_ms=1, retry=RetryPolicy()
    )
    ready = TaskReady(
        task="main", execution_id="e", attempt=1, assignment=1, ready_at_ms=1, due_at_ms=1, cause=ReadyCause.DUE
    )
    for told, found in ((None, []), (JobStatus.QUEUED, []), (JobStatus.RUNNING, ["RUNNING"])):
        report = Report("c")
        fold = StateFold(Machine(0, Checkpoint(cell="c", partitions=1), Limits(), Retained()), report, 0)
        assert fold.fold(_record(1, submitted, JobStatus.SCHEDULED)) and fold.fold(_record(2, ready, told))
        assert [one.found for one in report.differences] == found
