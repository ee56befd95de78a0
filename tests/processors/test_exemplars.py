"""Histograms of a scheduler name a trace that is sampled, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger.domain.job import events as je
from jobledger.domain.job.commands import FailureKind
from jobledger.domain.queue import events as qe
from jobledger.domain.values import SYSTEM, Opaque
from jobledger.processors.clock import SystemClock
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.plan import Plan
from jobledger.processors.observer import TelemetryObserver
from jobledger.schemas.events import EventRecord
from jobledger.telemetry.metrics import Metrics

TRACE = "ab" * 16
ATTEMPT: dict[str, Any] = {"task": "main", "execution_id": "e", "attempt": 1, "assignment": 1, "worker": "w"}
ASSIGNED = qe.TaskAssigned(
    job="job:default:1",
    task="main",
    assignment=1,
    execution_id="e",
    attempt=1,
    worker="w",
    incarnation="i",
    assigned_at_ms=1,
    ready_at_ms=1,
    due_at_ms=1,
    priority=3,
)
SUCCEEDED = je.TaskSucceeded(**ATTEMPT, started_at_ms=1, ended_at_ms=5)
FAILED = je.TaskFailed(
    **ATTEMPT, started_at_ms=1, ended_at_ms=5, kind=FailureKind.FAILED, error_type="E", error=Opaque("{}")
)


def _shown(event: Any, traceparent: str) -> set[str]:
    """The histograms that name the trace after a commit of the event."""
    metrics = Metrics("scheduler", instance_id="t", strict=True)
    record = EventRecord(
        id="0-1",
        originator_id="queue:default:q" if event is ASSIGNED else "job:default:1",
        originator_version=2,
        seq=1,
        tenant="default",
        at_ms=1,
        command_id="c",
        actor=SYSTEM,
        data=event,
        traceparent=traceparent,
    )
    plan = Plan(now_ms=1, checkpoint=Checkpoint(cell="c", partitions=1), records=[record])
    TelemetryObserver(metrics, SystemClock(), "t").committed(0, plan, 0.01)
    lines = metrics.render("application/openmetrics-text; version=1.0.0")[0].decode().splitlines()
    return {line.partition("_bucket")[0] for line in lines if f'trace_id="{TRACE}"' in line}


@pytest.mark.parametrize(
    ("event", "histograms"),
    [
        (ASSIGNED, {"scheduler_dispatch_latency_seconds", "scheduling_latency_seconds"}),
        (SUCCEEDED, {"execution_duration_seconds"}),
        (FAILED, {"execution_duration_seconds"}),
    ],
)
def test_a_sampled_trace_can_be_found_from_the_histogram(event: Any, histograms: set[str]) -> None:
    assert _shown(event, f"00-{TRACE}-{'cd' * 8}-01") == {*histograms, "jobledger_transaction_seconds"}
    assert _shown(event, f"00-{TRACE}-{'cd' * 8}-00") == set()
    assert _shown(event, "") == set()
