"""Counters of what owners have committed that no line of the log is written for: objectives, batches, late timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobledger.domain.job import events as je
from jobledger.domain.job.state import Job
from jobledger.domain.queue.events import TaskAssigned
from jobledger.domain.service_levels import Completion, Due, JobEnd, assigned, completion, withdrawn
from jobledger.domain.values import Code, Rejection
from jobledger.processors.core.plan import Plan
from jobledger.schemas.events import EventRecord
from jobledger.telemetry.metrics import Metrics

Count = Callable[[EventRecord, Any, Plan], None]


class CommitMeasures:
    """Fed with each plan after its commit."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._commands = metrics.bind("jobledger_batch_commands")
        self._timers_late = metrics.bind("jobledger_timers_late_total")
        self._stale = metrics.bind("jobledger_stale_reports_total")
        bind = metrics.bind
        self._due = {outcome: bind("jobledger_jobs_due_total", outcome=outcome.value) for outcome in Due}
        name = "jobledger_jobs_completed_within_total"
        self._completed = {outcome: bind(name, outcome=outcome.value) for outcome in Completion}
        self._counts: dict[type, Count] = {
            TaskAssigned: self._assigned,
            je.TaskCancelled: self._cancelled,
            je.JobSucceeded: self._ended,
            je.JobCancelled: self._ended,
            je.JobDeadLettered: self._dead_lettered,
        }

    def committed(self, plan: Plan) -> None:
        """A transaction is committed."""
        self._commands.observe(plan.commands)
        if plan.timers_late:
            self._timers_late.inc(plan.timers_late)
        for decided in plan.decided:
            if isinstance(decided.rejection, Rejection) and decided.rejection.code is Code.STALE_ASSIGNMENT:
                self._stale.inc()
        counts = self._counts
        for record in plan.records:
            count = counts.get(type(record.data))
            if count is not None:
                count(record, record.data, plan)

    def _assigned(self, record: EventRecord, event: TaskAssigned, plan: Plan) -> None:
        outcome = assigned(event)
        if outcome is not None:
            self._due[outcome].inc()

    def _cancelled(self, record: EventRecord, event: je.TaskCancelled, plan: Plan) -> None:
        job = plan.states.get(record.originator_id)
        if isinstance(job, Job) and (outcome := withdrawn(event, job.due_at_ms)) is not None:
            self._due[outcome].inc()

    def _ended(self, record: EventRecord, event: JobEnd, plan: Plan) -> None:
        job = plan.states.get(record.originator_id)
        if isinstance(job, Job):
            self._completed[completion(event, job)].inc()

    def _dead_lettered(self, record: EventRecord, event: je.JobDeadLettered, plan: Plan) -> None:
        self._ended(record, event, plan)
        job = plan.states.get(record.originator_id)
        if isinstance(job, Job):
            self._metrics.inc("jobledger_dead_letters_total", queue_name=job.queue)
