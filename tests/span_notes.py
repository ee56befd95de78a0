"""An exporter that notes the spans it is given, for tests."""

from __future__ import annotations

from typing import Any

from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.span_buffer import SpanBuffer
from jobledger.telemetry.traceparent import IdSource, RandomIds
from jobledger.telemetry.traces import Tracing


class SpanNotes:
    """In the place of `SpanExport`."""

    def __init__(self) -> None:
        self.spans: list[FinishedSpan] = []
        self.buffer: SpanBuffer[Any] = SpanBuffer(lambda span: None)

    def finished(self, span: FinishedSpan, kind: str) -> None:
        self.spans.append(span)

    def held(self, span: Any, key: str, reason: Any) -> None:
        raise AssertionError("no handler of these tests makes spans")

    def stop(self, timeout: float) -> None:
        pass

    def take(self) -> dict[str, FinishedSpan]:
        """The spans since the last call, by name."""
        spans, self.spans = self.spans, []
        found = {span.name: span for span in spans}
        assert len(found) == len(spans), "a name twice"
        return found


class Lucky(RandomIds):
    """Trace ids that are all among the 1 % that is kept."""

    def trace_id(self) -> int:
        """A new one."""
        return super().trace_id() | ((1 << 56) - 1)


def noting(ids: IdSource | None = None) -> tuple[Tracing, SpanNotes]:
    """Tracing into notes."""
    notes = SpanNotes()
    return Tracing(ids, notes), notes  # type: ignore[arg-type]
