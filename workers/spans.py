"""The span of an attempt, where its trace is recorded."""

from __future__ import annotations

from contextlib import AbstractContextManager

from jobledger.domain.identity import split_stream
from jobledger.domain.worker_messages import RunTask
from jobledger.telemetry.traceparent import is_sampled, use_traceparent
from jobledger.telemetry.traces import Span, Tracing
from jobledger.workers.attempt import AttemptEnd, EndStatus

#: A job that was due at most this long after its submission stays in the submitter's trace.
SAME_TRACE_MS = 60_000


def execution_span(tracing: Tracing, run: RunTask, worker: str) -> AbstractContextManager[Span | None]:
    """A span where the trace is sampled; else only the submitter's ids on log lines.

    The first attempt of a job that is due soon is a child in the submitter's trace; later work is a trace of its own
    with a link to it.
    """
    trace = run.traceparent or ""
    if not trace or not is_sampled(trace):
        return use_traceparent(trace)
    job_id = split_stream(run.job)[2]
    attributes: dict[str, str | int | float | bool] = {
        "worker_id": worker,
        "attempt": run.attempt,
        "job_id": job_id,
        "execution_id": run.execution_id,
    }
    if run.attempt == 1 and run.due_at_ms - _made_at_ms(job_id, run.due_at_ms) <= SAME_TRACE_MS:
        return tracing.start_span("task_execution", trace, attributes=attributes)
    return tracing.start_span("task_execution", links=[trace], attributes=attributes)


def _made_at_ms(job_id: str, otherwise: int) -> int:
    """The id of a job holds the time when it was made (UUIDv7)."""
    try:
        return int(job_id.replace("-", "")[:12], 16)
    except ValueError:
        return otherwise


def marked(span: Span | None, end: AttemptEnd) -> AttemptEnd:
    """The same end; a span that is recorded is marked as failed by it."""
    if span is not None and end.status is not EndStatus.SUCCESS:
        span.fail(end.error_type or end.status.value)
    return end
