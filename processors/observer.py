"""Logs, metrics and spans of the partition owners, made from what was committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from jobledger.domain.aggregates import State
from jobledger.domain.identity import split_stream
from jobledger.domain.job import events as je
from jobledger.domain.queue import events as qe
from jobledger.domain.queue.state import QueueState, task_key
from jobledger.domain.service_levels import ended_as
from jobledger.domain.values import Rejection
from jobledger.processors.core.plan import Decided, Plan
from jobledger.processors.core.ports import Clock
from jobledger.processors.measures import CommitMeasures
from jobledger.processors.spans import SchedulerSpans
from jobledger.schemas.events import EventRecord, type_name
from jobledger.telemetry.logs import get_logger, timestamp
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.traceparent import sampled_trace_id

log = get_logger()


class TelemetryObserver:
    """`Observer` that writes logs, metrics and spans."""

    def __init__(self, metrics: Metrics, clock: Clock, instance_id: str, spans: SchedulerSpans | None = None) -> None:
        self._metrics = metrics
        self._spans = spans
        self._clock = clock
        self._instance_id = instance_id
        self._served: set[int] = set()
        self._polling = metrics.bind("scheduler_polling_duration_seconds")
        self._transaction = metrics.bind("jobledger_transaction_seconds")
        self._dispatch_latency = metrics.bind("scheduler_dispatch_latency_seconds")
        self._scheduling_latency = metrics.bind("scheduling_latency_seconds")
        self._execution = metrics.bind("execution_duration_seconds")
        self._takeover = metrics.bind("jobledger_takeover_seconds")
        self._measures = CommitMeasures(metrics)
        self._slot_free_at_ms: dict[str, int] = {}
        metrics.set("scheduler_is_leader", 0)

    def opened(self, partition: int, seconds: float, live_jobs: int) -> None:
        """The partition is served."""
        self._served.add(partition)
        self._metrics.set("jobledger_partition_served", 1, partition=partition)
        self._transition()
        self._takeover.observe(seconds)
        log.info("leadership_acquired", scheduler_id=self._instance_id, partition=partition)
        log.info("partition_recovered", partition=partition, duration_ms=round(seconds * 1000), live_jobs=live_jobs)

    def closed(self, partition: int, reason: str) -> None:
        """The partition is not served any more."""
        self._lost(partition, reason)

    def reopened(self, partition: int, reason: str, error: str) -> None:
        """The owner forgets its memory and starts over."""
        self._lost(partition, reason)
        self._metrics.inc("jobledger_owner_reopened_total", reason=reason)
        if reason == "fenced":
            log.warning("owner_fenced", partition=partition, error=error)
        if reason == "log":
            self._metrics.inc("scheduler_queue_connection_errors_total")
        log.warning("owner_reopened", partition=partition, reason=reason, error=error)

    def refused(self, partition: int, error: str) -> None:
        """The partition stays closed until somebody repairs it."""
        log.critical("owner_stopped", partition=partition, error=error)

    def gaps(self, partition: int, overdue: Mapping[int, tuple[int, int]]) -> None:
        """Gaps in the outboxes of other partitions that no repetition has closed in time."""
        self._metrics.set("jobledger_outbox_gaps", len(overdue), partition=partition)
        for source, (missing, seen) in overdue.items():
            log.error("outbox_gap", partition=partition, source=source, missing=missing, seen=seen)

    def _lost(self, partition: int, reason: str) -> None:
        if partition not in self._served:
            return
        self._served.discard(partition)
        self._metrics.drop_matching(partition=partition)
        self._transition()
        log.warning("leadership_lost", scheduler_id=self._instance_id, partition=partition, reason=reason)

    def _transition(self) -> None:
        self._metrics.inc("scheduler_leadership_transitions_total")
        self._metrics.set("scheduler_is_leader", 1 if self._served else 0)

    def turned(self, partition: int, collect_seconds: float) -> None:
        """A turn of the batch loop has collected what waits."""
        self._polling.observe(collect_seconds)
        self._metrics.set("scheduler_heartbeat_timestamp", self._clock.now_ms() / 1000)

    def committed(self, partition: int, plan: Plan, seconds: float) -> None:
        """A transaction is committed."""
        shown = [one.record for one in plan.traced[:1]] or plan.records[:1]
        self._transaction.observe(seconds, sampled_trace_id(shown[0].traceparent) if shown else None)
        committed_at_ms = self._clock.now_ms()
        for result, count in Counter(decided.result for decided in plan.decided).items():
            self._metrics.inc("jobledger_commands_decided_total", count, outcome=result)
            if result == "QUARANTINED":
                self._metrics.inc("jobledger_quarantined_total", count)
        for decided in plan.decided:
            if decided.result == "REJECTED":
                self._rejected(decided)
            if decided.result == "QUARANTINED":
                command_id = decided.command.id if decided.command else ""
                reason = getattr(decided.rejection, "message", "")
                offset = -1 if decided.offset is None else decided.offset  # -1: what the owner did by itself
                log.error(
                    "command_quarantined", command_id=command_id, partition=partition, offset=offset, error=reason
                )
        self._measures.committed(plan)
        for record in plan.records:
            self._event(record, committed_at_ms, plan.states)
        if self._spans is not None and plan.traced:
            self._spans.committed(plan.traced)

    def _rejected(self, decided: Decided) -> None:
        if decided.command is not None and isinstance(decided.rejection, Rejection):
            tenant = decided.command.stream.split(":")[1]
            log.debug("command_rejected", command_id=decided.command.id, tenant_id=tenant, code=decided.rejection.code)

    # -- one event -----------------------------------------------------------------------------------------------

    def _event(self, record: EventRecord, committed_at_ms: int, states: Mapping[str, State]) -> None:
        data = record.data
        log.debug(
            "state_transition",
            stream_id=record.originator_id,
            tenant_id=record.tenant,
            event_type=type_name(data),
            version=record.originator_version,
            traceparent=record.traceparent,
        )
        if isinstance(data, qe.TaskAssigned):
            self._assigned(record, data, committed_at_ms, _trace_of(states.get(record.originator_id), data))
        elif isinstance(data, qe.TaskEnqueued):
            self._metrics.inc("queue_messages_enqueued_total", queue_name=_name(record))
        elif isinstance(data, qe.TaskReleased):
            self._released(record, data)
        elif isinstance(data, je.TaskReady):
            self._ready(record, data)
        elif isinstance(data, je.JobSubmitted):
            self._metrics.inc("jobledger_jobs_submitted_total")
        elif isinstance(data, je.JobSucceeded | je.JobCancelled | je.JobDeadLettered):
            self._ended(record, data)
        elif isinstance(data, je.TaskSucceeded):
            self._executed(record, data)
        elif isinstance(data, je.TaskFailed | je.TaskLost):
            self._failed(record, data)
        elif isinstance(data, qe.CreditsSet):
            self._slot_free_at_ms[record.originator_id] = record.at_ms
            log.info("worker_registered", worker_id=data.worker, incarnation=data.incarnation, credits=data.credits)
        elif isinstance(data, qe.WorkerLost):
            log.warning("worker_lost", worker_id=data.worker, incarnation=data.incarnation, tasks=len(data.lost))

    def _assigned(
        self, record: EventRecord, data: qe.TaskAssigned, committed_at_ms: int, traceparent: str | None
    ) -> None:
        free_at = self._slot_free_at_ms.get(record.originator_id, 0)
        wait_from = max(data.ready_at_ms, min(free_at, data.assigned_at_ms))
        latency_ms = max(0, committed_at_ms - wait_from)
        trace_id = sampled_trace_id(record.traceparent)
        self._dispatch_latency.observe(latency_ms / 1000, trace_id)
        self._metrics.inc("scheduler_jobs_dispatched_total", priority=str(data.priority))
        self._metrics.inc("queue_messages_dequeued_total", queue_name=_name(record))
        if data.assignment == 1:
            self._metrics.inc("jobs_dispatched_total")
            self._scheduling_latency.observe(max(0, committed_at_ms - data.due_at_ms) / 1000, trace_id)
        log.info(
            "job_dispatched",
            job_id=_id(data.job),
            tenant_id=record.tenant,
            execution_id=data.execution_id,
            queue=_name(record),
            scheduled_time=timestamp(data.due_at_ms),
            dispatch_latency_ms=latency_ms,
            traceparent=traceparent,
        )

    def _released(self, record: EventRecord, data: qe.TaskReleased) -> None:
        self._slot_free_at_ms[record.originator_id] = data.released_at_ms
        ended = data.outcome.value == "ENDED"
        name = "queue_messages_acknowledged_total" if ended else "queue_messages_rejected_total"
        self._metrics.inc(name, queue_name=_name(record))

    def _ready(self, record: EventRecord, data: je.TaskReady) -> None:
        if data.cause in (je.ReadyCause.DUE, je.ReadyCause.RETRY, je.ReadyCause.REDRIVEN):
            self._metrics.inc("scheduler_jobs_polled_total")
            log.info(
                "job_polled",
                job_id=_id(record.originator_id),
                tenant_id=record.tenant,
                next_run_time=timestamp(data.due_at_ms),
                traceparent=record.traceparent,
            )
            return
        self._metrics.inc("dispatch_failures_total")
        log.warning(
            "dispatch_retry",
            job_id=_id(record.originator_id),
            tenant_id=record.tenant,
            attempt=data.attempt,
            error=f"assignment {data.assignment - 1} ended without a start: {data.cause}",
            traceparent=record.traceparent,
        )

    def _ended(self, record: EventRecord, data: je.JobSucceeded | je.JobCancelled | je.JobDeadLettered) -> None:
        if isinstance(data, je.JobDeadLettered):
            log.error(
                "dispatch_failed" if data.cause is je.DeadLetterCause.DISPATCH_FAILED else "job_dead_lettered",
                job_id=_id(record.originator_id),
                tenant_id=record.tenant,
                error=data.cause.value,
                after_attempts=data.attempts,
                traceparent=record.traceparent,
            )
        self._metrics.inc("executions_completed_total", status=ended_as(data))

    def _executed(self, record: EventRecord, data: je.TaskSucceeded | je.TaskFailed) -> None:
        seconds = max(0, data.ended_at_ms - data.started_at_ms) / 1000
        self._execution.observe(seconds, sampled_trace_id(record.traceparent))

    def _failed(self, record: EventRecord, data: je.TaskFailed | je.TaskLost) -> None:
        if isinstance(data, je.TaskFailed) and data.retry_at_ms is None:
            self._executed(record, data)
        if data.retry_at_ms is not None:
            log.warning(
                "task_retry_scheduled",
                job_id=_id(record.originator_id),
                tenant_id=record.tenant,
                attempt=data.attempt,
                next_run_time=timestamp(data.retry_at_ms),
                traceparent=record.traceparent,
            )


def _name(record: EventRecord) -> str:
    return split_stream(record.originator_id)[2]


def _id(stream: str) -> str:
    return stream.rpartition(":")[2]


def _trace_of(queue: State | None, assigned: qe.TaskAssigned) -> str | None:
    """The trace of a task that a worker holds: what assigned it is a command about the whole queue, which has none."""
    task = queue.lanes.tasks.get(task_key(assigned.job, assigned.task)) if isinstance(queue, QueueState) else None
    return None if task is None else task.traceparent
