"""The ids of the spans of one attempt, which every process derives for itself.

The scheduler makes its spans after the end of the job, when those of the worker have long named them as their parents,
and only if the trace is kept. So none of these ids is random: each follows from the submitter's trace, the execution,
the attempt and the hand-out.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from jobledger.telemetry.traceparent import parse_traceparent


class AttemptTrace(NamedTuple):
    """Ids in lower-case hex: of the trace, and of the spans in it by what they are of.

    `parent` is the submitter's span, '' at the root; `link` the submitter's traceparent where this is a trace of its
    own, else ''. `sampled`: the submitter has it recorded, whatever becomes of the work.
    """

    trace_id: str
    parent: str
    schedule: str
    queue: str
    execution: str
    link: str
    sampled: bool

    def traceparent(self, span_id: str, *, sampled: bool) -> str:
        """The traceparent of what is below a span of it."""
        return f"00-{self.trace_id}-{span_id}-{'01' if sampled else '00'}"


def attempt_trace(
    submitter: str, execution_id: str, attempt: int, assignment: int, *, waited_for: bool
) -> AttemptTrace:
    """The trace of an attempt of the job that was submitted under a traceparent ('' or malformed: none).

    `waited_for`: it belongs to what the submitter did, so it stays in that trace; else it is a trace of its own that
    is linked to it, the same for every hand-out of the attempt.
    """
    given = parse_traceparent(submitter) if submitter else None
    if given is not None and waited_for:
        trace_id, parent, link = given.trace_id, given.span_id, ""
    else:
        origin = given.trace_id if given is not None else ""
        trace_id = _digest(16, f"{origin}/{execution_id}/{attempt}")
        parent, link = "", submitter if given is not None else ""
    spans = _digest(24, f"{trace_id}/{execution_id}/{attempt}/{assignment}")
    sampled = given is not None and given.sampled
    return AttemptTrace(trace_id, parent, spans[:16], spans[16:32], spans[32:], link, sampled)


def _digest(size: int, text: str) -> str:
    return blake2b(text.encode(), digest_size=size).hexdigest()
