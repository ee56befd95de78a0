"""Which traces are kept, decided when the work has ended: errors, what was slow, what is new, and 1 % of the rest.

The 1 % goes by the trace id alone, so that every process keeps the same traces: its low 56 bits are compared with a
threshold, as in OpenTelemetry's consistent probability sampling (OTEP 235) and its collector.
"""

from __future__ import annotations

from enum import StrEnum

from jobledger.telemetry.declarations import OTHER
from jobledger.telemetry.quantile import StreamingQuantile

SLOW_QUANTILE = 0.95
#: Executions of a job type that are all kept; before as many were seen, nothing is called slow.
FIRST_EXECUTIONS = 100
NORMAL_SHARE = 0.01
#: Job types that are told apart; those beyond share one place.
MAX_JOB_TYPES = 500

_RANDOM_BITS = 56


class SamplingReason(StrEnum):
    """Why a trace is kept; the retention goes by it."""

    ERROR = "error"
    SLOW = "slow"
    NEW = "new"
    NORMAL = "normal"


def in_share(trace_id: str, share: float) -> bool:
    """Whether a trace id (32 hex digits) is among `share` (0-1) of all; the same everywhere."""
    threshold = round((1 - share) * (1 << _RANDOM_BITS))
    return int(trace_id[-_RANDOM_BITS // 4 :], 16) >= threshold


class Sampler:
    """Decides by what this process has seen: each worker learns for itself.

    `first`: how many executions of a job type are kept because it is new.
    """

    def __init__(self, *, first: int = FIRST_EXECUTIONS, share: float = NORMAL_SHARE) -> None:
        self._first = first
        self._share = share
        self._durations: dict[str, StreamingQuantile] = {}
        self._seen: dict[str, int] = {}

    def decide(self, job_type: str, failed: bool, duration_seconds: float, trace_id: str) -> SamplingReason | None:
        """Whether and why the trace of an execution that has ended is kept."""
        job_type = self._known(job_type)
        seen = self._seen[job_type] = self._seen[job_type] + 1
        durations = self._durations[job_type]
        slow = durations.seen >= FIRST_EXECUTIONS and durations.exceeds(duration_seconds)
        if failed:  # how long a failure took says nothing of how long the work takes
            return SamplingReason.ERROR
        durations.observe(duration_seconds)
        if slow:
            return SamplingReason.SLOW
        if seen <= self._first:
            return SamplingReason.NEW
        return SamplingReason.NORMAL if in_share(trace_id, self._share) else None

    def expects(self, job_type: str, trace_id: str) -> bool:
        """Whether an execution that begins now will be kept if it is neither slow nor an error."""
        return self._seen[self._known(job_type)] < self._first or in_share(trace_id, self._share)

    def slow_above(self, job_type: str) -> float:
        """Seconds above which an execution of this type counts as slow now."""
        return self._durations[self._known(job_type)].value

    def _known(self, job_type: str) -> str:
        if job_type not in self._seen:
            if len(self._seen) >= MAX_JOB_TYPES:
                job_type = OTHER
            if job_type not in self._seen:
                self._seen[job_type] = 0
                self._durations[job_type] = StreamingQuantile(SLOW_QUANTILE)
        return job_type
