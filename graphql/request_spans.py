"""`api_request`: the span of each operation, from its arrival to its answer.

An operation that may have begun work waits for the end of that work, which the tail of the events tells: then the
whole trace is kept, or nothing of it. The rest is decided by itself: errors, what was slow for its field, 1 % by the
trace id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobledger.schemas.events import tracestate_in
from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.held_spans import HELD_SECONDS, HeldSpans
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.sampling import Sampler, SamplingReason
from jobledger.telemetry.traceparent import TraceIds, child_traceparent, parse_traceparent
from jobledger.telemetry.traces import Tracing
from jobledger.telemetry.tracestate import reason_in

_TRACEPARENT = b'"traceparent":"'
_FAILED = (b'"type":"task.failed.', b'"type":"task.lost.', b'"type":"job.dead_lettered.')
_SERVER_ERROR = 500


@dataclass(slots=True)
class Request:
    """An operation that has begun; `traceparent` is what its commands carry. `parent`: the caller's, if it records."""

    traceparent: str
    ids: TraceIds | None = None
    parent: str = ""
    by_caller: bool = False
    start_ns: int = 0


class RequestSpans:
    """Makes the spans of operations and decides which are kept."""

    def __init__(
        self,
        tracing: Tracing,
        metrics: Metrics,
        monotonic: Callable[[], float],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._tracing = tracing
        self._clock_ns = clock_ns
        self._sampler = Sampler(first=0)
        self._held = HeldSpans(
            tracing.export, monotonic, lambda: metrics.inc("jobledger_trace_spans_dropped_total", reason="held")
        )
        self._watch: asyncio.TimerHandle | None = None

    def begin(self, incoming: str) -> Request:
        """An operation arrives, with the caller's traceparent ('': none)."""
        given = parse_traceparent(incoming) if incoming else None
        if given is None:
            traceparent = self._tracing.new_traceparent()
        elif given.sampled and not self._tracing.recording:
            traceparent = incoming  # a span id that nobody exports would break the caller's tree
        else:
            traceparent = child_traceparent(incoming, self._tracing.ids)
        if not self._tracing.recording:
            return Request(traceparent)
        ids = parse_traceparent(traceparent)
        assert ids is not None
        self._held.begin(ids.trace_id)
        # Who records nothing has no span that could be a parent: his trace id alone goes on.
        parent = given.span_id if given is not None and given.sampled else ""
        return Request(traceparent, ids, parent, bool(parent), self._clock_ns())

    def end(self, request: Request, method: str, endpoint: str, status: int, *, waits: bool, stream: bool) -> None:
        """It is answered, with the status that stands for the worst of its outcomes.

        `waits`: it may have begun work. `stream`: it lasted as long as somebody listened.
        """
        if request.ids is None:
            return
        end_ns = self._clock_ns()
        attributes: dict[str, str | int] = {"method": method, "endpoint": endpoint, "status_code": status}
        error = str(status) if status >= _SERVER_ERROR else ""
        trace_id, span_id, _ = request.ids
        span = FinishedSpan(
            "api_request", trace_id, span_id, request.parent, request.start_ns, end_ns, attributes, error=error
        )
        heard = self._held.end(trace_id)
        seconds = 0.0 if stream else (end_ns - request.start_ns) / 1e9
        reason = self._sampler.decide(f"{method} {endpoint}", bool(error), seconds, trace_id)
        if reason is None and request.by_caller:
            reason = SamplingReason.NORMAL
        if heard is not None or not waits or error:
            reason = heard or reason
            if reason is not None:
                self._tracing.export(span, reason)
        else:
            self._held.hold(span, reason)
            self._expire_later()

    def saw(self, value: bytes, headers: Callable[[], Any]) -> None:
        """An event of a job has come: if it ends an attempt whose trace is kept, the request's span is kept too."""
        at = -1 if self._held.idle else value.rfind(_TRACEPARENT)
        if at < 0:
            return
        at += len(_TRACEPARENT)
        trace_id = value[at + 3 : at + 35].decode(errors="replace")
        if trace_id not in self._held:
            return
        failed = any(kind in value for kind in _FAILED)
        reason = reason_in(tracestate_in(headers())) or (SamplingReason.ERROR if failed else None)
        if reason is not None:
            self._held.kept(trace_id, reason)

    def _expire_later(self) -> None:
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(HELD_SECONDS, self._expire)

    def _expire(self) -> None:
        self._watch = None
        self._held.expire()
        if len(self._held):
            self._expire_later()
