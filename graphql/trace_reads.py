"""The query of traces."""

from __future__ import annotations

import re

from jobledger.graphql.trace_store import MAX_TRACES, StoredSpan, TraceStore
from jobledger.graphql.types.errors import ErrorCode, UserError, user_error
from jobledger.graphql.types.traces import Span, Trace

_TRACE_ID = re.compile(r"[0-9a-f]{32}")


def trace_of(store: TraceStore | None, trace_id: str) -> Trace | UserError:
    """A trace by its id, or why there is none to show."""
    if store is None:
        problem = "This api keeps no traces; only that of `jobledger dev` does"
        return user_error(ErrorCode.UNAVAILABLE, problem, "ask where your collector sends them", ["id"])
    if _TRACE_ID.fullmatch(trace_id) is None:
        return user_error(
            ErrorCode.INVALID, "Expected a trace id of 32 hex digits", "take it from a traceparent", ["id"], trace_id
        )
    spans = store.trace(trace_id)
    if not spans:
        problem = (
            f"No trace '{trace_id}' is here: it was not kept, is older than the last {MAX_TRACES:,}, or is on its way"
        )
        return user_error(ErrorCode.NOT_FOUND, problem, "ask again in a few seconds", ["id"], trace_id)
    return Trace(id=trace_id, spans=[_span(span) for span in spans])  # type: ignore[arg-type]


def _span(span: StoredSpan) -> Span:
    return Span(
        id=span.span_id,  # type: ignore[arg-type]
        parent_id=span.parent_id,  # type: ignore[arg-type]
        name=span.name,
        service=span.service,
        start=span.start_ns // 1_000_000,  # type: ignore[arg-type]
        start_ms=span.start_ns / 1e6,
        duration_ms=max(0, span.end_ns - span.start_ns) / 1e6,
        attributes=dict(span.attributes),  # type: ignore[arg-type]
        failed=span.failed,
        links=list(span.links),  # type: ignore[arg-type]
    )
