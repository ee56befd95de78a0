"""The trace that a call belongs to: the caller's own where it has one, else one that begins here."""

from __future__ import annotations

import random
import sys

_ids = random.Random(random.SystemRandom().getrandbits(128))  # ids are no secrets


def trace_headers() -> dict[str, str]:
    """W3C trace context for a request.

    Inside a span of OpenTelemetry it is that span's, as `traceparent` and `tracestate`. Else a new trace begins, which
    is not marked as recorded: whether it is kept is decided when the work has ended.
    """
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry.trace import get_current_span  # noqa: PLC0415 - whoever uses it has loaded it

        span = get_current_span().get_span_context()
        if span.is_valid:
            parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
            state = span.trace_state.to_header() if span.trace_state else ""
            return {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
    return {"traceparent": f"00-{_ids.getrandbits(128) or 1:032x}-{_ids.getrandbits(64) or 1:016x}-00"}
