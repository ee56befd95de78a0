"""The last traces of `jobledger dev`, in memory: what a collector and Tempo are elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_TRACES = 1_000
MAX_SPANS_PER_TRACE = 500
#: Over all traces.
MAX_SPANS = 20_000

Value = str | int | float | bool | list[object] | None


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """A span as it came in. Ids are lower-case hex, `parent_id` None at the root; times are ns since the epoch.

    `links` are the ids of other traces. `failed`: its status is ERROR.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    failed: bool = False


class TraceStore:
    """The traces that were heard of last. A span that comes twice is kept once; the trace heard of longest ago goes."""

    def __init__(self, traces: int = MAX_TRACES, per_trace: int = MAX_SPANS_PER_TRACE, spans: int = MAX_SPANS) -> None:
        self._most = traces
        self._per_trace = per_trace
        self._most_spans = spans
        self._traces: OrderedDict[str, dict[str, StoredSpan]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._traces)

    def add(self, span: StoredSpan) -> None:
        """Take a span in."""
        trace = self._traces.setdefault(span.trace_id, {})
        self._traces.move_to_end(span.trace_id)
        if span.span_id not in trace:
            if len(trace) >= self._per_trace:
                return
            self._count += 1
        trace[span.span_id] = span
        while len(self._traces) > self._most or (self._count > self._most_spans and len(self._traces) > 1):
            _, gone = self._traces.popitem(last=False)
            self._count -= len(gone)

    def trace(self, trace_id: str) -> list[StoredSpan]:
        """The spans of a trace in the order of their starts; none, if it isn't here."""
        spans = self._traces.get(trace_id, {}).values()
        return sorted(spans, key=lambda span: (span.start_ns, span.end_ns, span.span_id))
