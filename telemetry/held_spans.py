"""Spans of requests that wait for the end of the work they have begun: only that tells whether the trace is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.sampling import SamplingReason

HELD_SECONDS = 60.0
MAX_HELD = 10_000

#: Takes a span that is kept, with the reason.
Export = Callable[[FinishedSpan, SamplingReason], None]


class _Held(NamedTuple):
    until: float
    span: FinishedSpan
    otherwise: SamplingReason | None


class HeldSpans:
    """Holds spans by their trace for up to a minute, each from when it has ended.

    When there are too many, the oldest goes: `on_dropped` hears of each whose trace might have been kept.
    """

    def __init__(
        self,
        export: Export,
        monotonic: Callable[[], float],
        on_dropped: Callable[[], None],
        *,
        seconds: float = HELD_SECONDS,
        most: int = MAX_HELD,
    ) -> None:
        self._export = export
        self._monotonic = monotonic
        self._on_dropped = on_dropped
        self._seconds = seconds
        self._most = most
        self._order: deque[_Held] = deque()
        self._by_trace: dict[str, list[_Held]] = {}
        #: Traces of spans that have not ended, how many of them each has, and why it is kept: short work ends first.
        self._open: dict[str, tuple[int, SamplingReason | None]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, trace_id: str) -> bool:
        return trace_id in self._by_trace or trace_id in self._open

    @property
    def idle(self) -> bool:
        """Nothing is held, and nothing has begun."""
        return not self._by_trace and not self._open

    def begin(self, trace_id: str) -> None:
        """A span of this trace begins."""
        count, reason = self._open.get(trace_id, (0, None))
        self._open[trace_id] = (count + 1, reason)

    def end(self, trace_id: str) -> SamplingReason | None:
        """A span has ended; why its trace is kept, if that was heard already."""
        count, reason = self._open.pop(trace_id, (1, None))
        if count > 1:
            self._open[trace_id] = (count - 1, reason)
        return reason

    def hold(self, span: FinishedSpan, otherwise: SamplingReason | None) -> None:
        """Keep a span until its trace is decided upon, or for that reason when the time is over; None: drop it then."""
        self.expire()
        while len(self._order) >= self._most:
            oldest = self._order.popleft()
            if self._forget(oldest) and oldest.otherwise is None:
                self._on_dropped()
        held = _Held(self._monotonic() + self._seconds, span, otherwise)
        self._order.append(held)
        self._by_trace.setdefault(span.trace_id, []).append(held)

    def kept(self, trace_id: str, reason: SamplingReason) -> None:
        """Something of this trace is kept."""
        if trace_id in self._open:
            count, before = self._open[trace_id]
            self._open[trace_id] = (count, before or reason)
        for held in self._by_trace.pop(trace_id, ()):
            self._export(held.span, reason)

    def expire(self) -> None:
        """Give up what has waited for long enough."""
        now = self._monotonic()
        while self._order and self._order[0].until <= now:
            self._forget(self._order.popleft())

    def _forget(self, held: _Held) -> bool:
        """Hold it no longer; whether it was still held."""
        same = self._by_trace.get(held.span.trace_id, [])
        if not any(one is held for one in same):
            return False
        same[:] = [one for one in same if one is not held]
        if not same:
            del self._by_trace[held.span.trace_id]
        if held.otherwise is not None:
            self._export(held.span, held.otherwise)
        return True
