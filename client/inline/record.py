"""One job of the inline client: its state, decided and evolved by the product's own code, and what was seen of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobledger.client.errors import error_from
from jobledger.client.inline.log import InlineLog
from jobledger.client.models import JobEvent, JobView
from jobledger.domain.aggregates import evolve
from jobledger.domain.job import commands as c
from jobledger.domain.job import decide as jobs
from jobledger.domain.job import events as e
from jobledger.domain.job.state import MAIN_TASK, TERMINAL, Job, JobStatus, next_timer_ms
from jobledger.domain.spec import TaskSpec
from jobledger.domain.values import Opaque, Rejection, carrier
from jobledger.schemas.error_codes import BY_REJECTION
from jobledger.schemas.events import type_name
from jobledger.workers.attempt import Attempt, AttemptEnd, EndStatus
from jobledger.workers.context import CancelFlag, Checkpoint
from jobledger.workers.handler import Handler
from jobledger.workers.task_info import TaskInfo
from jobledger.workers.values import error_text

TENANT, WORKER = "inline", "inline"
_spec = carrier(TaskSpec, TaskSpec)


class Record:
    """A job, and the events that made it. Queue and worker are played here."""

    def __init__(self, log: InlineLog, state: Job, first: list[Any]) -> None:
        self._log = log
        self.state = state
        self.events: list[JobEvent] = []
        self.duplicate_of: Record | None = None
        self._result: Opaque | None = None
        self._failure: e.TaskFailed | None = None
        self._dead: e.JobDeadLettered | None = None
        self._reason: Opaque | None = None
        self._ready: e.TaskReady | None = None
        self._started_ms: int | None = None
        self._ended_ms: int | None = None
        self._stop: Callable[[], None] | None = None
        self._flag: CancelFlag | None = None
        for event in first:
            if not isinstance(event, e.JobSubmitted):
                evolve(self.state, event)
            self._note(event)

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.state.id.rpartition(":")[2]

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state.status in TERMINAL

    @property
    def due_ms(self) -> int | None:
        """When it is to run (again); None: it waits for no time. Limits of attempts are kept by who runs them."""
        waits = self.state.status in (JobStatus.SCHEDULED, JobStatus.RETRYING)
        return next_timer_ms(self.state) if waits else None

    @property
    def attempts(self) -> int:
        """Attempts begun so far."""
        return sum(event.type == type_name(e.TaskStarted) for event in self.events)

    @property
    def checkpoint(self) -> Any:
        """What its handler saved last; None if nothing was."""
        saved = self.state.tasks[MAIN_TASK].checkpoint if MAIN_TASK in self.state.tasks else None
        return None if saved is None else msgspec.json.decode(saved.data)

    def position(self) -> str:
        """From where readers see its submission."""
        return self.events[0].position

    def decide(self, command: c.JobCommand) -> None:
        """Let the job's own code decide, and evolve by it; raises the JobledgerError for what it rejects."""
        decided: Any = jobs.decide(self.state.id, self.state, command, self._log.now_ms)
        if isinstance(decided, Rejection):
            code = BY_REJECTION[decided.code].code
            values = {"code": code, "path": ["id"], "value": self.id, "status": self.state.status}
            raise error_from({**values, "message": decided.message.replace(self.state.id, self.id)})
        for event in decided:
            evolve(self.state, event)
            self._note(event)

    def _note(self, event: Any) -> None:
        now, status = self._log.now_ms, self.state.status
        match event:
            case e.TaskReady():
                self._ready, self._started_ms = event, None
            case e.TaskStarted():
                self._started_ms = event.started_at_ms
            case e.TaskSucceeded():
                self._result = event.result
            case e.TaskFailed():
                self._failure = event
            case e.JobCancelRequested() | e.JobCancelled():
                self._reason = event.reason or self._reason
            case e.JobDeadLettered():
                self._dead = event
            case e.JobRedriven():
                self._dead = self._failure = self._ended_ms = None
        if status in TERMINAL:
            self._ended_ms = now
        data = msgspec.to_builtins(event)
        del data["type"]
        if isinstance(event, e.JobSubmitted):
            status = JobStatus.SCHEDULED
        self.events.append(
            JobEvent(
                type=type_name(event),
                job_id=self.id,
                version=len(self.events) + 1,
                at=_time(now),
                status=status,
                data=data,
                position=self._log.append(),
            )
        )

    def wake(self) -> None:
        """Make it ready when its time has come."""
        due = self.due_ms
        if due is not None and due <= self._log.now_ms:
            self.decide(c.MarkDue(task=MAIN_TASK, due_at_ms=due))

    def cancel(self, reason: str | None) -> JobStatus:
        """Stop it, and the handler that runs; raises AlreadyEnded."""
        self.decide(c.CancelJob(reason=_opaque(reason)))
        if self._flag is not None:
            self._flag.set("CANCEL")
            if self._stop is not None:
                self._stop()
        elif self.state.status is JobStatus.CANCELLING:  # no queue here that has to agree
            self.decide(c.TaskWithdrawn(task=MAIN_TASK, assignment=self.state.main.assignment))
        return self.state.status

    def redrive(self, reason: str | None) -> JobStatus:
        """Begin another run of a dead letter; raises InvalidState, AlreadyEnded."""
        self.decide(c.RedriveJob(reason=_opaque(reason)))
        return self.state.status

    def discard(self, reason: str | None) -> JobStatus:
        """Close a dead letter; raises InvalidState, AlreadyEnded."""
        self.decide(c.DiscardJob(reason=_opaque(reason)))
        return self.state.status

    # -- attempts -----------------------------------------------------------------------------------------------------

    def begin(self, handler: Handler[..., Any]) -> tuple[Attempt, float | None]:
        """Start an attempt; its limit in seconds."""
        now, who = self._log.now_ms, self._who()
        self.decide(c.ReportStarted(**who, assigned_at_ms=now, started_at_ms=now))
        self._flag = CancelFlag()

        def save(checkpoint: Checkpoint) -> None:
            times = {"assigned_at_ms": now, "started_at_ms": now, "saved_at_ms": self._log.now_ms}
            self.decide(c.ReportCheckpoint(**{**who, **times, "checkpoint": checkpoint.data}))

        limit = self.state.timeout_seconds if self.state.timeout_seconds is not None else handler.timeout_seconds
        attempt = Attempt(
            handler=handler,
            info=self._info(limit),
            checkpoint=self.state.main.checkpoint,
            cancel=self._flag,
            save=save,
        )
        return attempt, limit

    def stop_with(self, stop: Callable[[], None]) -> None:
        """How the running handler can be stopped."""
        self._stop = stop

    def finish(self, end: AttemptEnd, limit: float | None, *, timed_out: bool) -> None:
        """Report the end of the attempt."""
        assert self._ready is not None
        asked, self._flag, self._stop = self._flag is not None and self._flag.reason == "CANCEL", None, None
        now, who = self._log.now_ms, self._who()
        times: dict[str, Any] = {"assigned_at_ms": self._started_ms, "started_at_ms": self._started_ms}
        if timed_out:
            error = error_text(f"The handler ran into its limit of {limit:g} s and was stopped.")
            failed: dict[str, Any] = {"kind": c.FailureKind.TIMEOUT, "error_type": "Timeout", "error": error}
            self.decide(c.ReportFailed(**who, **times, ended_at_ms=now, **failed))
        elif end.status is EndStatus.SUCCESS:
            self.decide(c.ReportSucceeded(**who, **times, ended_at_ms=now, result=end.result))
        elif asked and end.status is EndStatus.CANCELLED:
            self.decide(c.ReportCancelled(**who, ended_at_ms=now))
        else:
            failed = {
                "kind": c.FailureKind.FAILED,
                "error_type": end.error_type or "TaskCancelled",
                "error": end.error or error_text("The handler stopped as if it were cancelled."),
                "retryable": end.retryable,
                "error_bases": end.error_bases,
                "retry_after_seconds": end.retry_after_seconds,
            }
            self.decide(c.ReportFailed(**who, **times, ended_at_ms=now, **failed))

    def _who(self) -> dict[str, Any]:
        assert self._ready is not None
        return {
            "task": MAIN_TASK,
            "assignment": self._ready.assignment,
            "worker": WORKER,
            "incarnation": WORKER,
        }

    def _info(self, limit: float | None) -> TaskInfo:
        ready = self._ready
        assert ready is not None
        return TaskInfo(
            job_id=self.id,
            tenant=TENANT,
            task=MAIN_TASK,
            execution_id=ready.execution_id,
            attempt=ready.attempt,
            assignment=ready.assignment,
            spec=_spec(self.state),
            queue=self.state.queue,
            worker=WORKER,
            deadline_ms=None if limit is None else self._log.now_ms + round(limit * 1000),
        )

    # -- what is shown ------------------------------------------------------------------------------------------------

    def view(self) -> JobView:
        """As the read model shows a job."""
        state, succeeded = self.state, self.state.status is JobStatus.SUCCEEDED
        failure = None if succeeded else self._failure
        retrying = state.status is JobStatus.RETRYING
        return JobView(
            id=self.id,
            status=state.status,
            handler=state.handler,
            queue=state.queue,
            priority=state.priority,
            attempt=0 if self._ready is None else self._ready.attempt,
            submitted_at=_time(state.submitted_at_ms),
            due_at=_time(state.due_at_ms),
            started_at=None if self._started_ms is None else _time(self._started_ms),
            ended_at=None if self._ended_ms is None else _time(self._ended_ms),
            retry_at=_time(self.due_ms) if retrying and self.due_ms is not None else None,
            worker=None if self._started_ms is None else WORKER,
            payload=msgspec.json.decode(state.payload.data),
            result=None if self._result is None else msgspec.json.decode(self._result.data),
            error_type="" if failure is None else failure.error_type,
            error="" if failure is None else str(msgspec.json.decode(failure.error.data)["message"]),
            dead_letter_cause="" if self._dead is None else self._dead.cause.value,
            cancel_reason="" if self._reason is None else str(msgspec.json.decode(self._reason.data)),
            tags=dict(state.lineage.tags),
        )


def _opaque(reason: str | None) -> Opaque | None:
    return None if reason is None else Opaque(msgspec.json.encode(reason).decode())


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
