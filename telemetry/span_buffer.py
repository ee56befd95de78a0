"""Spans that handlers make by themselves, held until it is known whether their execution is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S")

#: Of one execution; and spans that are held or have begun, of all executions of the process.
MAX_SPANS_PER_EXECUTION = 500
MAX_SPANS = 20_000

#: Stand for the execution of a span that goes on, or nowhere, when it ends.
_GOES_ON, _DROPPED = -1, -2


class Held(NamedTuple, Generic[S]):
    """What an execution has left: its spans, and how many found no room."""

    spans: list[S]
    dropped: int


class _Opened(Generic[S]):
    """An execution that runs: the ids of its spans and of those that are open, what has ended, what had no room."""

    __slots__ = ("dropped", "ended", "known", "open")

    def __init__(self) -> None:
        self.known: set[int] = set()
        self.open: set[int] = set()
        self.ended: list[S] = []
        self.dropped = 0


class SpanBuffer(Generic[S]):
    """Holds spans by the execution that they descend from, in whatever thread they are made.

    Ids are those of spans. A span that ends after its execution goes to `go_on` if that was kept, else nowhere; to
    `go_on` goes at once what descends from no execution, and what begins when the buffer is full.
    """

    def __init__(
        self,
        go_on: Callable[[S], None],
        per_execution: int = MAX_SPANS_PER_EXECUTION,
        altogether: int = MAX_SPANS,
    ) -> None:
        self._go_on = go_on
        self._per_execution = per_execution
        self._altogether = altogether
        self._lock = threading.Lock()
        self._executions: dict[int, _Opened[S]] = {}
        #: The execution of each span that has begun, until that has ended; or what else becomes of the span.
        self._of: dict[int, int] = {}

    @property
    def size(self) -> int:
        """Spans that are known: held, or begun."""
        return len(self._of)

    def open(self, execution: int) -> None:
        """An execution begins under this span id."""
        with self._lock:
            self._executions[execution] = _Opened()

    def started(self, span: int, parent: int) -> None:
        """A span has begun below another one, or below an execution."""
        with self._lock:
            execution = parent if parent in self._executions else self._of.get(parent)
            if execution is None or len(self._of) >= self._altogether:
                return
            opened = self._executions.get(execution)
            if opened is None:
                self._of[span] = execution
            elif len(opened.known) >= self._per_execution:
                opened.dropped += 1
                self._of[span] = _DROPPED
            else:
                opened.known.add(span)
                opened.open.add(span)
                self._of[span] = execution

    def ended(self, span: int, held: S) -> None:
        """A span has ended."""
        with self._lock:
            execution = self._of.get(span)
            opened = None if execution is None else self._executions.get(execution)
            if opened is not None:
                opened.open.discard(span)
                opened.ended.append(held)
                return
            self._of.pop(span, None)
        if execution != _DROPPED:
            self._go_on(held)

    def close(self, execution: int, *, keep: bool) -> Held[S]:
        """The execution has ended: what it has left, which the caller keeps or forgets."""
        with self._lock:
            opened = self._executions.pop(execution, None)
            if opened is None:
                return Held([], 0)
            for span in opened.known - opened.open:
                self._of.pop(span, None)
            for span in opened.open:
                self._of[span] = _GOES_ON if keep else _DROPPED
            return Held(opened.ended, opened.dropped)
