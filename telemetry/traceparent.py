"""W3C trace context on plain strings: `00-<32 hex>-<16 hex>-<2 hex>`."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_LENGTH = 512

current_traceparent: ContextVar[str] = ContextVar("jobledger_traceparent", default="")
"""The traceparent of the work that runs now; log lines take their ids from it. Empty outside any trace."""


class TraceIds(NamedTuple):
    """The parts of a traceparent: lower-case hex ids and whether the trace is sampled."""

    trace_id: str
    span_id: str
    sampled: bool


class IdSource(Protocol):
    """Where new trace and span ids come from."""

    def trace_id(self) -> int:
        """A new trace id, 128 bits, never 0."""
        ...

    def span_id(self) -> int:
        """A new span id, 64 bits, never 0."""
        ...


class RandomIds:
    """Ids from a random generator; give a seeded one for repeatable ids."""

    def __init__(self, generator: random.Random | None = None) -> None:
        self._generator = generator or random.SystemRandom()
        if generator is None:
            # Trace ids are no secrets: a generator seeded once by the system is enough, and ten times as fast.
            self._generator = random.Random(random.SystemRandom().getrandbits(128))

    def trace_id(self) -> int:
        """A new trace id."""
        return self._generator.getrandbits(128) or 1

    def span_id(self) -> int:
        """A new span id."""
        return self._generator.getrandbits(64) or 1


def parse_traceparent(text: str) -> TraceIds | None:
    """The parts of a traceparent, or None where the text isn't one (the trace then starts anew, as W3C demands)."""
    match = _TRACEPARENT.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None or (text.startswith("00") and match[4]):
        return None
    return TraceIds(match[1], match[2], bool(int(match[3], 16) & 1))


def format_traceparent(trace_id: int, span_id: int, sampled: bool) -> str:
    """The traceparent of these ids."""
    return f"00-{trace_id:032x}-{span_id:016x}-{'01' if sampled else '00'}"


def is_sampled(traceparent: str) -> bool:
    """Whether a well-formed traceparent has the sampled flag."""
    return traceparent[54:55] in "13579bdf" if len(traceparent) >= 55 else False


def sampled_trace_id(traceparent: str | None) -> str | None:
    """The trace id, for exemplars; None where the trace is not sampled or there is none."""
    return traceparent[3:35] if traceparent and is_sampled(traceparent) else None


def child_traceparent(traceparent: str, ids: IdSource) -> str:
    """The same trace and flags with a new span id; the input must be well-formed."""
    return f"{traceparent[:36]}{ids.span_id():016x}{traceparent[52:55]}"


@contextmanager
def use_traceparent(traceparent: str) -> Iterator[None]:
    """Make log lines inside the block carry the ids of this traceparent."""
    token = current_traceparent.set(traceparent)
    try:
        yield
    finally:
        current_traceparent.reset(token)
