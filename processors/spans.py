"""The scheduler's spans of an attempt, made when its end is committed, and only where its trace is kept.

By then all times stand in the report and in the job's state, so a job that nobody traces costs nothing. The ids are
those that the worker has named as its parents (`attempt_trace`).
"""

from __future__ import annotations

from jobledger.domain.identity import partition_of, split_stream
from jobledger.processors.core.plan import Traced
from jobledger.telemetry.attempt_trace import attempt_trace
from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.sampling import SamplingReason
from jobledger.telemetry.traces import Tracing
from jobledger.telemetry.tracestate import reason_in

_NS_PER_MS = 1_000_000


class SchedulerSpans:
    """Exports `schedule_job` and `queue_enqueue` of the attempts that ended in a committed plan."""

    def __init__(self, tracing: Tracing, instance_id: str, partitions: int) -> None:
        self._tracing = tracing
        self._instance_id = instance_id
        self._partitions = partitions

    def committed(self, ended: list[Traced]) -> None:
        """A transaction is committed in which these have ended."""
        if self._tracing.recording:
            for one in ended:
                self._export(one)

    def _export(self, one: Traced) -> None:
        attempt, (_, tenant, job_id) = one.attempt, split_stream(one.record.originator_id)
        trace = attempt_trace(
            attempt.submitter,
            attempt.execution_id,
            attempt.attempt,
            attempt.assignment,
            waited_for=attempt.waited_for,
        )
        # A failure that nobody has reported, and one whose worker traces nothing, is an error all the same.
        default = SamplingReason.ERROR if attempt.error else SamplingReason.NORMAL
        reason = reason_in(one.tracestate) or default
        ids: dict[str, str | int] = {
            "job_id": job_id,
            "execution_id": attempt.execution_id,
            "attempt": attempt.attempt,
        }
        assigned_ms = attempt.assigned_at_ms
        scheduled = FinishedSpan(
            "schedule_job",
            trace.trace_id,
            trace.schedule,
            trace.parent,
            attempt.asked_at_ms * _NS_PER_MS,
            max(attempt.asked_at_ms, assigned_ms or attempt.ended_at_ms) * _NS_PER_MS,
            {**ids, "tenant_id": tenant, "scheduler_id": self._instance_id},
            (trace.link,) if trace.link else (),
            attempt.error,
        )
        self._tracing.export(scheduled, reason)
        if assigned_ms is None:
            return
        queued = FinishedSpan(
            "queue_enqueue",
            trace.trace_id,
            trace.queue,
            trace.schedule,
            attempt.ready_at_ms * _NS_PER_MS,
            max(attempt.ready_at_ms, assigned_ms) * _NS_PER_MS,
            {
                **ids,
                "queue": split_stream(attempt.queue)[2],
                "partition": partition_of(attempt.queue, self._partitions),
            },
        )
        self._tracing.export(queued, reason)
