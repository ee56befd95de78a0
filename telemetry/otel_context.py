"""OpenTelemetry's current context, for code of users that makes spans with it; nothing where nobody has loaded it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jobledger.telemetry.traceparent import current_traceparent, parse_traceparent


@contextmanager
def running_in(traceparent: str) -> Iterator[None]:
    """Log lines inside the block carry the ids of this traceparent, and spans that are begun there are below it."""
    ids = parse_traceparent(traceparent) if "opentelemetry.trace" in sys.modules else None
    ours = current_traceparent.set(traceparent)
    if ids is None:
        try:
            yield
        finally:
            current_traceparent.reset(ours)
        return
    from opentelemetry import context, trace  # noqa: PLC0415 - it is loaded

    span = trace.SpanContext(
        int(ids.trace_id, 16),
        int(ids.span_id, 16),
        is_remote=False,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED if ids.sampled else trace.TraceFlags.DEFAULT),
    )
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(span)))
    try:
        yield
    finally:
        context.detach(token)
        current_traceparent.reset(ours)
