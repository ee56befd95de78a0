"""Whatever ends a job or makes its task ready has a place in logs and metrics."""

from __future__ import annotations

from typing import Any

import pytest
from memory_owner import MemoryOwner, job, submit, wait_for
from structlog.testing import capture_logs

from jobledger.domain.job import events as je
from jobledger.domain.values import SYSTEM
from jobledger.processors.clock import SystemClock
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.plan import Decided, Plan
from jobledger.processors.observer import TelemetryObserver
from jobledger.schemas.events import EventRecord
from jobledger.telemetry.metrics import Metrics


def _seen(event: Any) -> list[str]:
    record = EventRecord(
        id="0-1",
        originator_id="job:default:1",
        originator_version=2,
        seq=1,
        tenant="default",
        at_ms=1,
        command_id="c",
        actor=SYSTEM,
        data=event,
    )
    with capture_logs() as lines:
        TelemetryObserver(Metrics("scheduler", instance_id="t", strict=True), SystemClock(), "t")._event(record, 1, {})
    return [line["event"] for line in lines if line["event"] != "state_transition"]


@pytest.mark.parametrize("cause", je.DeadLetterCause)
def test_every_cause_of_a_dead_letter_is_told(cause: je.DeadLetterCause) -> None:
    name = "dispatch_failed" if cause is je.DeadLetterCause.DISPATCH_FAILED else "job_dead_lettered"
    assert _seen(je.JobDeadLettered(ended_at_ms=1, cause=cause, attempts=1)) == [name]


@pytest.mark.parametrize("cause", je.ReadyCause)
def test_only_a_hand_out_without_a_start_is_a_failed_dispatch(cause: je.ReadyCause) -> None:
    ready = je.TaskReady(
        task="main", execution_id="e", attempt=1, assignment=2, ready_at_ms=1, due_at_ms=1, cause=cause
    )
    failed = cause in (je.ReadyCause.LOST, je.ReadyCause.RETURNED)
    assert _seen(ready) == ["dispatch_retry" if failed else "job_polled"]


def _set_aside_line(decided: Any) -> dict[str, Any]:
    with capture_logs() as lines:
        observer = TelemetryObserver(Metrics("scheduler", instance_id="t", strict=True), SystemClock(), "t")
        observer.committed(0, Plan(now_ms=1, checkpoint=Checkpoint(cell="c", partitions=1), decided=[decided]), 0.01)
    (line,) = [line for line in lines if line["event"] == "command_quarantined"]
    return dict(line)


@pytest.mark.scenario("a record is broken", emits=("command_quarantined", "jobledger_quarantined_total"))
@pytest.mark.parametrize("value", [b"no record", b'{"commands":[{"id":"x"}]}'])
async def test_what_is_set_aside_is_logged_with_the_place_where_it_stood(value: bytes) -> None:
    """So that a person finds the record in `commands`, and the thing in quarantine."""
    async with MemoryOwner() as one:
        one.feed(submit(job("a")))
        await one.outcome(job("a"))
        one.raw(value)
        await wait_for(lambda: any(d.result == "QUARANTINED" for plan in one.log.plans for d in plan.decided))
        (decided,) = [d for plan in one.log.plans for d in plan.decided if d.result == "QUARANTINED"]
    assert decided.offset == 1
    assert _set_aside_line(decided)["offset"] == 1
    assert _set_aside_line(Decided(None, "QUARANTINED"))["offset"] == -1
