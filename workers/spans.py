"""The spans of an attempt: its own, those of the calls that its handler makes, and those that the handler makes itself.

They are held until the attempt has ended, since only then it is known whether its trace is kept. What is thrown away
has cost no object of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple

from jobledger.domain.identity import split_stream
from jobledger.domain.job.attempt_ends import waited_for
from jobledger.domain.worker_messages import RunTask
from jobledger.telemetry.attempt_trace import AttemptTrace, attempt_trace
from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.otel_context import running_in
from jobledger.telemetry.sampling import Sampler, SamplingReason
from jobledger.telemetry.traceparent import is_sampled
from jobledger.telemetry.traces import REASON_ATTRIBUTE, Tracing
from jobledger.telemetry.tracestate import with_reason
from jobledger.workers.external_call import UNWANTED, CallSpan, CallSpans


class Recorded(NamedTuple):
    """Trace context for the report of an end whose trace is kept."""

    traceparent: str
    tracestate: str


class WorkerTracing:
    """What the executions of a worker share: the exporter, and what was learned of the job types."""

    def __init__(self, tracing: Tracing, worker: str, sampler: Sampler | None = None) -> None:
        self.tracing = tracing
        self.worker = worker
        self.sampler = sampler or Sampler()

    def trace(self, run: RunTask, tracestate: str) -> ExecutionTrace:
        """The trace of a task that has come in."""
        return RecordedExecution(self, run, tracestate) if self.tracing.recording else ExecutionTrace(run, tracestate)


class ExecutionTrace:
    """An attempt where nothing is recorded: the submitter's trace context goes on as it came.

    `traceparent` is for what the handler calls, `calls` for the spans of that.
    """

    def __init__(self, run: RunTask, tracestate: str) -> None:
        self.run = run
        self.traceparent = _passed_on(run)
        self.tracestate = tracestate
        self.calls = UNWANTED

    def running(self) -> AbstractContextManager[None]:
        """The handler runs inside this block."""
        return running_in(self.traceparent)

    def called(self, calls: Iterable[CallSpan]) -> None:
        """Calls that another process has made for it."""
        for call in calls:
            self.calls.add(call)

    def ended(self, status: str, error: str, start_ns: int, end_ns: int) -> Recorded | None:
        """The attempt has ended; trace context for its report where its trace is kept. `error` '': it went well."""
        return None


class RecordedExecution(ExecutionTrace):
    """An attempt in a process that exports spans."""

    def __init__(self, worker: WorkerTracing, run: RunTask, tracestate: str) -> None:
        super().__init__(run, tracestate)
        self._worker = worker
        self._ids = _ids_of(run)
        # What others record goes by what is known now: of an error or of slow work nothing is.
        expected = self._ids.sampled or worker.sampler.expects(run.handler, self._ids.trace_id)
        self.traceparent = self._ids.traceparent(self._ids.execution, sampled=expected)
        self.calls = CallSpans(recorded=True)

    def running(self) -> AbstractContextManager[None]:
        """See ExecutionTrace; spans that the handler makes are held from here on."""
        sdk = self._worker.tracing.sdk
        if sdk is not None:
            sdk.buffer.open(int(self._ids.execution, 16))
        return super().running()

    def ended(self, status: str, error: str, start_ns: int, end_ns: int) -> Recorded | None:
        """See ExecutionTrace."""
        seconds = max(0, end_ns - start_ns) / 1e9
        reason = self._worker.sampler.decide(self.run.handler, bool(error), seconds, self._ids.trace_id)
        if reason is None and self._ids.sampled:
            reason = SamplingReason.NORMAL
        dropped = self._release(reason)
        if reason is None:
            return None
        self._export(self._span(status, error, start_ns, end_ns, dropped), reason)
        for call in self.calls.ended:
            self._export(_call_span(self._ids, call), reason)
        traceparent = self._ids.traceparent(self._ids.execution, sampled=True)
        return Recorded(traceparent, with_reason(self.tracestate, reason))

    def _release(self, reason: SamplingReason | None) -> int:
        """Keep or forget what the handler has made itself; how many spans of it had no room."""
        sdk = self._worker.tracing.sdk
        if sdk is None:
            return self.calls.dropped
        held = sdk.buffer.close(int(self._ids.execution, 16), keep=reason is not None)
        if reason is not None:
            for span in held.spans:
                sdk.held(span, REASON_ATTRIBUTE, reason)
        return held.dropped + self.calls.dropped

    def _export(self, span: FinishedSpan, reason: SamplingReason) -> None:
        self._worker.tracing.export(span, reason)

    def _span(self, status: str, error: str, start_ns: int, end_ns: int, dropped: int) -> FinishedSpan:
        run, ids = self.run, self._ids
        attributes: dict[str, str | int] = {
            "worker_id": self._worker.worker,
            "attempt": run.attempt,
            "job_id": split_stream(run.job)[2],
            "execution_id": run.execution_id,
            "job_type": run.handler,
            "status": status,
        }
        if dropped:
            attributes["dropped_spans"] = dropped
        links = (ids.link,) if ids.link else ()
        return FinishedSpan(
            "task_execution", ids.trace_id, ids.execution, ids.queue, start_ns, end_ns, attributes, links, error
        )


def _ids_of(run: RunTask) -> AttemptTrace:
    waited = waited_for(run.job, run.task, run.execution_id, run.attempt, run.assignment, run.due_at_ms)
    return attempt_trace(run.traceparent or "", run.execution_id, run.attempt, run.assignment, waited_for=waited)


def _passed_on(run: RunTask) -> str:
    """What goes on where nothing is recorded: a span id of ours would be a parent that nobody ever exports.

    Later work in a trace that is recorded elsewhere begins a trace of its own, which nobody records.
    """
    trace = run.traceparent or ""
    if not is_sampled(trace):
        return trace
    ids = _ids_of(run)
    return ids.traceparent(ids.execution, sampled=False) if ids.link else trace


def _call_span(ids: AttemptTrace, call: CallSpan) -> FinishedSpan:
    attributes: dict[str, str | int] = {"url": call.url, "method": call.method}
    if call.status:
        attributes["status"] = call.status
    return FinishedSpan(
        "external_api_call",
        ids.trace_id,
        call.span_id,
        ids.execution,
        call.start_ns,
        call.end_ns,
        attributes,
        error=call.error,
    )
