"""One task at this worker: from its message in the inbox to the report of its end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from jobledger.domain.identity import split_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.spec import TaskSpec
from jobledger.domain.values import Opaque, carrier
from jobledger.domain.worker_messages import RunTask
from jobledger.telemetry.logs import LOGGERS, get_logger
from jobledger.telemetry.traceparent import use_traceparent
from jobledger.workers.attempt import Attempt, AttemptEnd, EndStatus, StopReason, call, call_async, failed, failure
from jobledger.workers.context import CancelFlag, Checkpoint
from jobledger.workers.handler import Handler
from jobledger.workers.journal import Journal, Running
from jobledger.workers.measures import Measures
from jobledger.workers.pool import PoolProcess, ProcessPool
from jobledger.workers.pool_protocol import Run
from jobledger.workers.reports import Reports
from jobledger.workers.spans import Recorded, WorkerTracing
from jobledger.workers.task_info import TaskInfo
from jobledger.workers.values import error_text

#: A handler that has run for this long is reported as started; a shorter one reports start and end in one.
STARTED_AFTER_SECONDS = 0.005
#: How long a process has to react to its cancel flag before it is killed.
CANCEL_GRACE_SECONDS = 2.0
#: An async handler that swallows its cancellation is cancelled again, this often.
CANCEL_AGAIN_SECONDS = 1.0

log = get_logger()
_spec = carrier(TaskSpec, TaskSpec)


class Stage(Enum):
    """How far a task has come."""

    WAITING = auto()
    RUNNING = auto()
    ENDED = auto()


class LeaseView(Protocol):
    """Whether handlers may run."""

    @property
    def valid(self) -> bool:
        """At this moment."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all executions of a worker share."""

    worker: str
    reports: Reports
    pool: ProcessPool | None
    lease: LeaseView
    measures: Measures
    tracing: WorkerTracing
    journal: Journal
    clock: Callable[[], float] = time.time


class Execution:
    """Runs one hand-out of a task and reports its end. `ended` is called once, when nothing of it runs any more."""

    def __init__(
        self,
        run: RunTask,
        handler: Handler[Any, Any],
        around: Surroundings,
        ended: Callable[[Execution], None],
        tracestate: str = "",
    ) -> None:
        self.run = run
        self._trace = around.tracing.trace(run, tracestate)
        self._recorded: Recorded | None = None
        self.stage = Stage.WAITING
        self._handler = handler
        self._around = around
        self._ended = ended
        self._cancel = CancelFlag()
        self._reason: StopReason | None = None
        self._started_ms = 0
        self._started_ns = 0
        self._tenant, self._job_id = split_stream(run.job)[1:]
        self._timers: list[asyncio.TimerHandle] = []
        self._process: PoolProcess | None = None
        self._checkpoint: Checkpoint | None = None
        self._saving = False
        self._place: int | None = None
        self._start_sent = False
        self._before_handler = False
        self._task: asyncio.Task[None] | None = None

    @property
    def handler_name(self) -> str:
        """The handler that it runs."""
        return self._handler.name

    @property
    def job_id(self) -> str:
        """Id of its job."""
        return self._job_id

    @property
    def tenant(self) -> str:
        """Tenant of its job."""
        return self._tenant

    @property
    def overdue_seconds(self) -> float:
        """Seconds by which its handler has overrun its limit; negative while it has not, or has none."""
        if self.stage is not Stage.RUNNING or self._limit is None:
            return -1.0
        return (self._now() - self._started_ms) / 1000 - self._limit

    def is_run_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this asyncio task runs it in the loop."""
        return task is not None and task is self._task

    @property
    def key(self) -> tuple[str, str, int]:
        """(job, task, assignment)."""
        return self.run.job, self.run.task, self.run.assignment

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._go())

    def stop(self, reason: StopReason) -> None:
        """Stop it, or don't start it; what is reported depends on the reason. May be called again."""
        if self.stage is Stage.ENDED or self._task is None:
            return
        if self._reason is None or reason is StopReason.LEASE:
            self._reason = reason
        self._cancel.set(reason.value)
        if self._before_handler:
            self._task.cancel()
        elif self.stage is Stage.WAITING:
            pass  # it has not come to its first step, where it looks at the reason
        elif self._process is not None:
            self._stop_process(self._process, reason)
        elif self._handler.run_in == "loop":
            self._task.cancel()
            self._after(CANCEL_AGAIN_SECONDS, lambda: self.stop(reason))

    def stop_if_waiting(self) -> None:
        """Hand it back, unless its handler runs."""
        if self.stage is Stage.WAITING:
            self.stop(StopReason.DRAIN)

    def _stop_process(self, process: PoolProcess, reason: StopReason) -> None:
        if reason in (StopReason.TIMEOUT, StopReason.LEASE):
            process.kill()
        else:
            process.ask(reason.value)
            self._after(CANCEL_GRACE_SECONDS, process.kill)

    async def _go(self) -> None:
        end: AttemptEnd | None = None
        try:
            if self._reason is None:
                end = await self._run_there()
        except asyncio.CancelledError:
            end = None  # stopped before its start; the reason says what to report
        except Exception as error:  # noqa: BLE001 - of what is around the handler: the job must hear of it all the same
            end = failed(error)
        started = self.stage is Stage.RUNNING
        self.stage = Stage.ENDED
        for timer in self._timers:
            timer.cancel()
        if started:
            self._around.measures.ended()
        try:
            self._conclude(end, started)
        finally:
            self._ended(self)

    async def _run_there(self) -> AttemptEnd | None:
        if self._handler.run_in == "loop":
            return await self._in_loop()
        if self._handler.run_in == "thread":
            return await self._in_thread()
        return await self._in_process()

    async def _in_loop(self) -> AttemptEnd | None:
        if not self._begin() or not await self._start_known():
            return None
        with self._trace.running():
            return await call_async(self._attempt(), lambda: self._around.lease.valid)

    async def _in_thread(self) -> AttemptEnd | None:
        if not self._begin() or not await self._start_known():
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AttemptEnd] = loop.create_future()
        with self._trace.running():
            attempt, context = self._attempt(), contextvars.copy_context()
            # Saving from a thread has to come back to the loop.
            direct = attempt.save

            def save(checkpoint: Checkpoint) -> None:
                loop.call_soon_threadsafe(direct, checkpoint)

            def work() -> None:
                end = context.run(call, attempt.with_save(save))
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_settle, future, end)

            threading.Thread(target=work, name=f"handler-{self._handler.name}", daemon=True).start()
            return await future

    async def _in_process(self) -> AttemptEnd | None:
        pool = self._around.pool
        assert pool is not None, "a pool is made when a handler wants one"
        self._before_handler = True
        try:
            process = await pool.acquire()
        finally:
            self._before_handler = False
        try:
            if not self._begin() or not await self._start_known():
                return None
            self._process = process
            recorded = self._trace.calls.recorded
            levels = dict(LOGGERS.changed)
            run = Run(info=self._info(), checkpoint=self.run.checkpoint, recorded=recorded, log_levels=levels)
            with use_traceparent(self._trace.traceparent):
                end = await process.run(run, self._save)
            self._trace.called(end.calls)
            return end
        finally:
            self._process = None
            await pool.release(process)

    def _begin(self) -> bool:
        """The handler starts now, unless the lease is over or somebody has said stop."""
        if self._reason is not None or not self._around.lease.valid:
            return False
        self.stage = Stage.RUNNING
        now = self._around.clock()
        self._started_ms, self._started_ns = int(now * 1000), int(now * 1e9)
        self._place = self._around.journal.begin(self._running())
        self._around.measures.started()
        self._after(STARTED_AFTER_SECONDS, self._report_started)
        limit = self._limit
        if limit is not None:
            self._after(limit, lambda: self.stop(StopReason.TIMEOUT))
        log.info("task_started", **self._ids())
        return True

    async def _start_known(self) -> bool:
        """Whether the handler may run: where its start has to be on the log before, this waits for that."""
        if not self.run.start_first:
            return True
        known = asyncio.Event()
        # Also when the watchdog has just reported it: nobody hears what becomes of that, and a repeat changes nothing.
        self._start_sent = True
        self._send(self._start(), known.set)
        self._before_handler = True
        try:
            await known.wait()
        finally:
            self._before_handler = False
        return self._reason is None and self._around.lease.valid

    def _running(self) -> Running:
        return Running(
            job=self.run.job,
            task=self.run.task,
            assignment=self.run.assignment,
            handler=self.run.handler,
            incarnation=self.run.incarnation,
            assigned_at_ms=self.run.assigned_at_ms,
            started_at_ms=self._started_ms,
        )

    @property
    def _limit(self) -> float | None:
        """Seconds that the handler may run: as the job says, else as the handler says."""
        return self.run.timeout_seconds if self.run.timeout_seconds is not None else self._handler.timeout_seconds

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, what))

    def _info(self) -> TaskInfo:
        limit = self._limit
        return TaskInfo(
            job_id=self._job_id,
            tenant=self._tenant,
            task=self.run.task,
            execution_id=self.run.execution_id,
            attempt=self.run.attempt,
            assignment=self.run.assignment,
            spec=_spec(self.run),
            queue=self.run.queue,
            worker=self._around.worker,
            deadline_ms=None if limit is None else self._started_ms + round(limit * 1000),
            traceparent=self._trace.traceparent or None,
            tracestate=self._trace.tracestate,
        )

    def _attempt(self) -> Attempt:
        return Attempt(
            handler=self._handler,
            info=self._info(),
            checkpoint=self.run.checkpoint,
            cancel=self._cancel,
            save=self._save,
            calls=self._trace.calls,
        )

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _save(self, checkpoint: Checkpoint) -> None:
        """Send a checkpoint; while one is on its way, only the newest waits behind it."""
        self._checkpoint = checkpoint
        if not self._saving:
            self._send_checkpoint()

    def _send_checkpoint(self) -> None:
        checkpoint, self._checkpoint = self._checkpoint, None
        self._saving = checkpoint is not None
        if checkpoint is None:
            return
        if not self._around.lease.valid:
            self._saving = False
            self._around.measures.checkpoint_failed()
            log.warning("checkpoint_failed", **self._ids(), error="The worker's lease is over.")
            return
        saved = jc.ReportCheckpoint(
            **self._who(),
            assigned_at_ms=self.run.assigned_at_ms,
            started_at_ms=self._started_ms,
            saved_at_ms=self._now(),
            checkpoint=checkpoint.data,
        )
        self._send(saved, lambda: self._checkpoint_delivered(checkpoint.progress))

    def _checkpoint_delivered(self, progress: float | None) -> None:
        self._around.measures.checkpoint_saved()
        log.debug("checkpoint_saved", **self._ids(), progress=None if progress is None else f"{progress:g}%")
        self._send_checkpoint()

    # -- reports ------------------------------------------------------------------------------------------------------

    def _report_started(self) -> None:
        if self.stage is Stage.RUNNING and self._reason is not StopReason.LEASE and not self._start_sent:
            self._start_sent = True
            self._send(self._start())

    def _start(self) -> jc.ReportStarted:
        return jc.ReportStarted(**self._who(), assigned_at_ms=self.run.assigned_at_ms, started_at_ms=self._started_ms)

    def post_start(self) -> None:
        """Report the start if that is not done yet; from another thread, while the loop stands."""
        if self.stage is Stage.RUNNING and not self._start_sent:
            self._start_sent = self._around.reports.post(self.run.job, self._start())

    def post_failed(self, kind: jc.FailureKind, error_type: str, message: str) -> None:
        """Report a failed end; from another thread, of a handler that nothing but the end of the process can stop."""
        failed_now = self._failure(kind, error_type, error_text(message), retryable=True)
        if self._around.reports.post(self.run.job, failed_now):
            self._noted()

    def _conclude(self, end: AttemptEnd | None, started: bool) -> None:
        """Report the end, unless the lease is over: then others have been told already, or will be."""
        if self._reason is StopReason.LEASE or not self._around.lease.valid:
            self._noted()
            self._trace_ended("LOST", "LeaseOver")
            log.warning("task_dropped", **self._ids(), reason="The worker's lease is over.")
        elif not started:
            self._report_unstarted(end)
        elif self._reason is StopReason.TIMEOUT:
            self._report_timeout()
        elif end is not None and end.status is EndStatus.SUCCESS:
            self._report_success(end)
        elif self._reason is StopReason.CANCEL:
            self._report_cancelled()
        elif self._reason is StopReason.DRAIN:
            stopped = error_text("The worker stopped before the handler had ended.")
            self._report_failed(jc.FailureKind.FAILED, "WorkerStopping", stopped, retryable=True)
        else:
            end = end or failure("LeaseOver", "The worker's lease was over when the handler was to begin.")
            error = end.error or error_text("The handler stopped as if it were cancelled, but nobody had asked it to.")
            error_type = end.error_type or "TaskCancelled"
            self._report_failed(jc.FailureKind.FAILED, error_type, error, retryable=end.retryable, end=end)

    def _report_unstarted(self, end: AttemptEnd | None) -> None:
        if self._reason is StopReason.CANCEL:
            self._report_cancelled()
            return
        reason = "The worker is stopping."
        if end is not None and end.error is not None:
            reason = f"The worker can't run it: {end.error_type}."
        log.warning("task_refused", **self._ids(), reason=reason)
        self._send(jc.ReportReturned(**self._who(), reason=reason))

    def _report_success(self, end: AttemptEnd) -> None:
        now = self._now()
        self._trace_ended("SUCCESS")
        self._send(jc.ReportSucceeded(**self._who(), **self._times(now), result=end.result), self._noted)
        duration = now - self._started_ms
        self._around.measures.completed("SUCCESS", self._handler.name, duration / 1000, self._traceparent)
        log.info("task_completed", **self._ids(), duration_ms=duration, status="SUCCESS")

    def _report_timeout(self) -> None:
        limit_ms = round((self._limit or 0) * 1000)
        error = error_text(f"The handler ran into its limit of {limit_ms / 1000:g} s and was stopped.")
        duration = self._now() - self._started_ms
        log.warning("task_timeout", **self._ids(), duration_ms=duration, limit_ms=limit_ms)
        self._report_failed(jc.FailureKind.TIMEOUT, "Timeout", error, retryable=True)

    def _report_failed(
        self, kind: jc.FailureKind, error_type: str, error: Opaque, *, retryable: bool, end: AttemptEnd | None = None
    ) -> None:
        if self._checkpoint is not None:
            self._send_checkpoint()  # before the end: afterwards nobody would take it
        report = self._failure(kind, error_type, error, retryable=retryable, end=end)
        self._trace_ended(kind.value, error_type)
        self._send(report, self._noted)
        seconds = (report.ended_at_ms - self._started_ms) / 1000
        self._around.measures.completed(kind.value, self._handler.name, seconds, self._traceparent)
        if kind is jc.FailureKind.FAILED:
            log.error("task_failed", **self._ids(), error=error_type, attempt=self.run.attempt)

    def _failure(
        self, kind: jc.FailureKind, error_type: str, error: Opaque, *, retryable: bool, end: AttemptEnd | None = None
    ) -> jc.ReportFailed:
        return jc.ReportFailed(
            **self._who(),
            **self._times(self._now()),
            kind=kind,
            error_type=error_type,
            error=error,
            retryable=retryable,
            error_bases=end.error_bases if end else (),
            retry_after_seconds=end.retry_after_seconds if end else None,
        )

    def _report_cancelled(self) -> None:
        now = self._now()
        self._trace_ended("CANCELLED")
        self._send(jc.ReportCancelled(**self._who(), ended_at_ms=now), self._noted)
        if self._started_ms:
            seconds = (now - self._started_ms) / 1000
            self._around.measures.completed("CANCELLED", self._handler.name, seconds, self._traceparent)
        log.info("task_cancelled", **self._ids(), reason="Somebody cancelled the job.")

    def _trace_ended(self, status: str, error: str = "") -> None:
        """Decide whether the trace of the attempt is kept: its report tells the others."""
        if self._started_ns:
            self._recorded = self._trace.ended(status, error, self._started_ns, int(self._around.clock() * 1e9))

    def _noted(self) -> None:
        """The log has the end, or others have been told: it needn't be remembered for a later death."""
        place, self._place = self._place, None
        self._around.journal.end(place)

    def _send(self, body: Any, delivered: Callable[[], None] | None = None) -> None:
        self._around.reports.send(
            self.run.job,
            body,
            correlation_id=self.run.correlation_id,
            traceparent=self._traceparent,
            tracestate=self._recorded.tracestate if self._recorded else None,
            delivered=delivered,
        )

    @property
    def _traceparent(self) -> str | None:
        """Of the attempt's own trace once it is known to be kept, else the submitter's."""
        return self._recorded.traceparent if self._recorded else self.run.traceparent

    def _who(self) -> dict[str, Any]:
        return {
            "task": self.run.task,
            "assignment": self.run.assignment,
            "worker": self.run.worker,
            "incarnation": self.run.incarnation,
        }

    def _times(self, now_ms: int) -> dict[str, Any]:
        return {
            "assigned_at_ms": self.run.assigned_at_ms,
            "started_at_ms": self._started_ms,
            "ended_at_ms": max(now_ms, self._started_ms),
        }

    def _ids(self) -> dict[str, Any]:
        """What every line about it has; the last is empty where it is in no trace."""
        return {
            "execution_id": self.run.execution_id,
            "job_id": self._job_id,
            "tenant_id": self._tenant,
            "traceparent": self._trace.traceparent,
        }

    def _now(self) -> int:
        return int(self._around.clock() * 1000)


def _settle(future: asyncio.Future[AttemptEnd], end: AttemptEnd) -> None:
    if not future.done():
        future.set_result(end)
