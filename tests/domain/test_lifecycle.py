"""The table of a job's transitions is what the code does, no more and no less."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobledger.domain.aggregates import evolve
from jobledger.domain.job import commands as c
from jobledger.domain.job import decide as jobs
from jobledger.domain.job import events as e
from jobledger.domain.job.evolve import EVOLVE
from jobledger.domain.job.evolve import create as create_job
from jobledger.domain.job.lifecycle import TRANSITIONS, mermaid, status_after, table, targets
from jobledger.domain.job.retry import MAX_DISPATCHES_WITHOUT_START
from jobledger.domain.job.state import FINAL, Job, JobStatus, next_timer_ms
from jobledger.domain.values import Lineage, Opaque, RetryPolicy

STREAM = "job:default:0199"
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "job-lifecycle.md"
ATTEMPT: dict[str, Any] = {"task": "main", "execution_id": "1", "attempt": 1, "assignment": 1, "worker": "w"}
Edge = tuple[JobStatus | None, type[Any], JobStatus]


def _commands(job: Job) -> Iterator[c.JobCommand]:
    """Every command that could have an effect on the job now."""
    of: dict[str, Any] = {"task": "main", "assignment": job.main.assignment, "worker": "w", "incarnation": "w.1"}
    times: dict[str, Any] = {"assigned_at_ms": 1, "started_at_ms": 2}
    yield c.CancelJob()
    yield c.MarkDue(task="main", due_at_ms=next_timer_ms(job) or 0)
    yield c.ReportStarted(**of, **times)
    yield c.ReportCheckpoint(**of, **times, saved_at_ms=3, checkpoint=Opaque("1"))
    yield c.ReportSucceeded(**of, **times, ended_at_ms=3)
    for retryable in (True, False):
        error: dict[str, Any] = {"kind": c.FailureKind.FAILED, "error_type": "E", "error": Opaque('""')}
        yield c.ReportFailed(**of, **times, ended_at_ms=3, retryable=retryable, **error)
    yield c.ReportCrashed(**of, **times)
    yield c.RedriveJob()
    yield c.DiscardJob()
    yield c.ReportCancelled(**of, ended_at_ms=3)
    yield c.ReportReturned(**of, reason="stopping")
    yield c.AttemptLost(**of)
    yield c.TaskWithdrawn(task="main", assignment=job.main.assignment)


def _fold(job: Job | None, events: list[Any], edges: set[Edge]) -> Job:
    for event in events:
        before = None if job is None else job.status
        if isinstance(event, e.JobSubmitted):
            job = create_job(STREAM, event, Lineage())
        else:
            assert job is not None
            evolve(job, event)
        edges.add((before, type(event), job.status))
    assert job is not None
    return job


def _explore() -> set[Edge]:
    """Try every command in every state that differs in what a decision looks at."""
    edges: set[Edge] = set()
    open_states: list[Job] = []
    seen: set[Any] = set()
    for due in (None, 10_000_000):
        submit = c.SubmitJob(
            handler="h", queue="q", payload=Opaque("{}"), due_at_ms=due, retry=RetryPolicy(max_attempts=2)
        )
        open_states.append(_fold(None, jobs.decide(STREAM, None, submit, 1000), edges))  # type: ignore[arg-type]
    while open_states:
        job = open_states.pop()
        known = (job.status, job.main.attempt, job.main.started, job.main.unstarted, next_timer_ms(job) is None)
        if known in seen:
            continue
        seen.add(known)
        assert len(seen) < 1_000, f"a count grows for ever: {known}"
        for command in _commands(job):
            decision = jobs.decide(STREAM, job, command, max(20_000_000, next_timer_ms(job) or 0))
            if isinstance(decision, list) and decision:
                assert job.status not in FINAL, f"{command} has effect after {job.status}"
                open_states.append(_fold(copy.deepcopy(job), decision, edges))
    assert len(seen) > MAX_DISPATCHES_WITHOUT_START
    return edges


def test_the_table_is_what_the_decisions_do() -> None:
    """Every command in every reachable state gives the transitions of the table, and all of them."""
    assert _explore() == {(one.source, one.event, one.target) for one in TRANSITIONS}


def test_every_event_of_a_job_stands_in_the_table() -> None:
    assert {one.event for one in TRANSITIONS} == {e.JobSubmitted, *EVOLVE}


def test_an_event_alone_tells_the_status_or_nothing() -> None:
    """Where one event leads to several statuses, its fields tell them apart; only what changes nothing is silent."""
    samples = [
        e.TaskStarted(**ATTEMPT, incarnation="w.1", assigned_at_ms=1, started_at_ms=2, cancelling=cancelling)
        for cancelling in (False, True)
    ]
    assert [status_after(None, event) for event in samples] == [JobStatus.RUNNING, JobStatus.CANCELLING]
    assert status_after(JobStatus.CANCELLING, samples[0]) is JobStatus.CANCELLING  # from before it told
    lost = [e.TaskLost(**ATTEMPT, lost_at_ms=1, before_start=False, retry_at_ms=retry) for retry in (None, 9)]
    assert [status_after(None, event) for event in lost] == [None, JobStatus.RETRYING]
    assert status_after(JobStatus.RUNNING, lost[0]) is JobStatus.RUNNING


def test_nothing_leads_out_of_the_end() -> None:
    """A job that has ended takes no event any more."""
    for status in FINAL:
        assert not any(targets(status, event) for event in EVOLVE)
        assert any(one.target is status for one in TRANSITIONS)


def test_the_page_shows_the_table_of_the_code() -> None:
    """Diagram and table in the documentation are those of the code; `scripts/job-lifecycle` renews them."""
    page = PAGE.read_text(encoding="utf-8")
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL)
    assert diagram == mermaid()
    assert table() in page
