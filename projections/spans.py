"""The projector's spans: from the commit of an event that ends an attempt to its row, where its trace is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from jobledger.domain.identity import split_stream
from jobledger.domain.job import events as e
from jobledger.schemas.events import EventRecord, tracestate_in, type_name
from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.sampling import SamplingReason
from jobledger.telemetry.traceparent import parse_traceparent
from jobledger.telemetry.traces import Tracing
from jobledger.telemetry.tracestate import reason_in

_ENDS = frozenset({e.TaskSucceeded, e.TaskFailed, e.TaskLost, e.TaskCancelled})
_FAILURES = frozenset({e.TaskFailed, e.TaskLost})


class TracedEvent(NamedTuple):
    """An event whose trace is kept; `headers` gives those of its record."""

    record: EventRecord
    partition: int
    headers: Callable[[], Any]


def is_traced(record: EventRecord) -> bool:
    """Whether an event ends an attempt whose trace is kept.

    A failure is kept also where no worker has said so; of later attempts that an owner ended by himself nothing
    here tells the trace.
    """
    kind = type(record.data)
    if kind not in _ENDS or record.traceparent is None:
        return False
    return record.sampled or (kind in _FAILURES and getattr(record.data, "attempt", 0) == 1)


def export_applied(tracing: Tracing, applied: list[TracedEvent]) -> None:
    """Export the spans of events whose batch is in Postgres now."""
    if not tracing.recording:
        return
    now_ns = time.time_ns()
    for record, partition, headers in applied:
        parent = parse_traceparent(record.traceparent or "")
        if parent is None:
            continue
        default = SamplingReason.ERROR if type(record.data) in _FAILURES else SamplingReason.NORMAL
        start_ns = record.at_ms * 1_000_000
        span = FinishedSpan(
            "projection_apply",
            parent.trace_id,
            f"{tracing.ids.span_id():016x}",
            parent.span_id,
            start_ns,
            max(start_ns, now_ns),
            {
                "partition": partition,
                "seq": record.seq,
                "event_type": type_name(record.data),
                "job_id": split_stream(record.originator_id)[2],
            },
        )
        tracing.export(span, reason_in(tracestate_in(headers())) or default)
