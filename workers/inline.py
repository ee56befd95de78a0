"""Handlers run in this process, without any server: for unit tests of those who write handlers.

The job's own decisions (retries and their back-off, dead letter, cancel, checkpoints) are the real ones; queue,
worker, log and clock are played here. Time is virtual: a job that is due tomorrow runs when it is asked for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from jobledger.domain import job as jobs
from jobledger.domain import job_commands as c
from jobledger.domain import job_events as e
from jobledger.domain.aggregates import evolve
from jobledger.domain.identity import job_stream
from jobledger.domain.job_state import MAIN_TASK, TERMINAL, Job, JobStatus, next_timer_ms
from jobledger.domain.values import Lineage, Opaque, Rejection, RetryPolicy
from jobledger.workers.attempt import Attempt, AttemptEnd, EndStatus, call, call_async
from jobledger.workers.client.errors import (
    AlreadyEnded,
    IdempotencyKeyReused,
    InvalidInput,
    JobCancelled,
    JobFailed,
    NotFound,
)
from jobledger.workers.client.models import JobSpec
from jobledger.workers.context import CancelFlag, TaskInfo
from jobledger.workers.handler import Handler
from jobledger.workers.values import error_text

T = TypeVar("T")
TENANT, WORKER = "inline", "inline"
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_ATTEMPTS_RUN = 10_000


class InlineJob:
    """A job of the inline client."""

    def __init__(self, client: InlineClient, state: Job, first: list[Any]) -> None:
        self._client = client
        self._state = state
        self._events = list(first)
        self._result: Opaque | None = None
        self._failure: e.TaskFailed | None = None

    @property
    def id(self) -> str:
        """Its id."""
        return self._state.id.rpartition(":")[2]

    @property
    def attempts(self) -> int:
        """Attempts begun so far."""
        return sum(isinstance(event, e.TaskStarted) for event in self._events)

    @property
    def last_checkpoint(self) -> Any:
        """What its handler saved last; None if nothing was."""
        saved = self._state.main.checkpoint
        return None if saved is None else msgspec.json.decode(saved.data)

    def status(self) -> JobStatus:
        """Its status now; nothing runs for the question."""
        return self._state.status

    def events(self) -> list[Any]:
        """What has happened to it so far."""
        return list(self._events)

    def cancel(self, reason: str | None = None) -> JobStatus:
        """Stop it before it runs (again); raises AlreadyEnded."""
        text = None if reason is None else Opaque(msgspec.json.encode(reason).decode())
        self._decide(c.CancelJob(reason=text))
        if self._state.status is JobStatus.CANCELLING:  # no queue here that has to agree
            self._decide(c.TaskWithdrawn(task=MAIN_TASK, assignment=self._state.main.assignment))
        return self._state.status

    def result(self, timeout: float | None = None) -> Any:
        """Run it to its end, attempt by attempt, moving the clock where it has to wait; then as the real client.

        Raises JobFailed and JobCancelled. `timeout` is there for likeness; nothing waits here.
        """
        self._client.run(self)
        if self._state.status is JobStatus.SUCCEEDED:
            return None if self._result is None else msgspec.json.decode(self._result.data)
        if self._state.status is JobStatus.CANCELLED:
            raise JobCancelled(self.id)
        failure = self._failure
        assert failure is not None
        message = str(msgspec.json.decode(failure.error.data)["message"])
        raise JobFailed(self.id, failure.kind.value, failure.error_type, message, self._state.main.attempt)

    def _decide(self, command: c.JobCommand) -> None:
        decided: Any = jobs.decide(self._state.id, self._state, command, self._client.now_ms)
        if isinstance(decided, Rejection):
            raise AlreadyEnded(decided.message, decided.code.value, ["id"], self.id)
        assert isinstance(decided, list)
        for event in decided:
            evolve(self._state, event)
            self._events.append(event)
            if isinstance(event, e.TaskSucceeded):
                self._result = event.result
            elif isinstance(event, e.TaskFailed):
                self._failure = event

    def _wake(self, due_ms: int) -> None:
        self._decide(c.MarkDue(task=MAIN_TASK, due_at_ms=due_ms))

    def _attempt(self, handler: Handler[..., Any]) -> None:
        """One attempt, and the report of its end."""
        started, ready = self._client.now_ms, self._ready()
        who: dict[str, Any] = {"task": MAIN_TASK, "assignment": ready.assignment, "worker": WORKER}
        who["incarnation"] = WORKER
        times: dict[str, Any] = {"assigned_at_ms": started, "started_at_ms": started}
        self._decide(c.ReportStarted(**who, **times))

        def save(checkpoint: Opaque) -> None:
            self._decide(c.ReportCheckpoint(**who, **times, saved_at_ms=self._client.now_ms, checkpoint=checkpoint))

        limit = self._state.timeout_seconds if self._state.timeout_seconds is not None else handler.timeout_seconds
        attempt = Attempt(
            handler=handler,
            info=self._info(handler, ready, limit),
            payload=self._state.payload,
            checkpoint=self._state.main.checkpoint,
            cancel=CancelFlag(),
            save=save,
        )
        end, timed_out = _run(attempt, limit)
        times["ended_at_ms"] = self._client.now_ms
        if timed_out:
            error = error_text(f"The handler ran into its limit of {limit:g} s and was stopped.")
            kind = c.FailureKind.TIMEOUT
            self._decide(c.ReportFailed(**who, **times, kind=kind, error_type="Timeout", error=error))
        elif end.status is EndStatus.SUCCESS:
            self._decide(c.ReportSucceeded(**who, **times, result=end.result))
        else:
            failed = c.ReportFailed(
                **who,
                **times,
                kind=c.FailureKind.FAILED,
                error_type=end.error_type or "TaskCancelled",
                error=end.error or error_text("The handler stopped as if it were cancelled."),
                retryable=end.retryable,
            )
            self._decide(failed)

    def _ready(self) -> e.TaskReady:
        return next(event for event in reversed(self._events) if isinstance(event, e.TaskReady))

    def _info(self, handler: Handler[..., Any], ready: e.TaskReady, limit: float | None) -> TaskInfo:
        return TaskInfo(
            job_id=self.id,
            tenant=TENANT,
            task=MAIN_TASK,
            execution_id=ready.execution_id,
            attempt=ready.attempt,
            assignment=ready.assignment,
            handler=handler.name,
            queue=self._state.queue,
            worker=WORKER,
            deadline_ms=None if limit is None else self._client.now_ms + round(limit * 1000),
        )


class InlineClient:
    """Looks like Client where it can. Handlers given by name have to be named to `inline(…)`."""

    def __init__(self, handlers: Iterable[Handler[..., Any]] = (), start: datetime | None = None) -> None:
        self._handlers = {one.name: one for one in handlers}
        self._jobs: dict[str, InlineJob] = {}
        self._keys: dict[str, tuple[str, InlineJob]] = {}
        self.now_ms = int((start or datetime.now(UTC)).timestamp() * 1000)

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def submit(  # noqa: PLR0913 - the options of a job, each by its name
        self,
        handler: str | Handler[..., Any],
        payload: object = None,
        *,
        at: datetime | None = None,
        in_: str | float | timedelta | None = None,
        queue: str = "default",
        priority: int = 3,
        tags: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        retry: RetryPolicy | int | None = None,
        timeout: str | float | timedelta | None = None,
    ) -> InlineJob:
        """Take a job in; it runs when its result is asked for, or by `run_due` and `advance`."""
        spec = JobSpec(
            handler=handler,
            payload=payload,
            at=at,
            in_=in_,
            queue=queue,
            priority=priority,
            tags=tags or {},
            idempotency_key=idempotency_key,
            retry=retry,
            timeout=timeout,
        )
        return self.submit_many([spec])[0]

    def submit_many(self, specs: Iterable[JobSpec]) -> list[InlineJob]:
        """Take jobs in."""
        return [self._submit(spec) for spec in specs]

    def job(self, job_id: str) -> InlineJob:
        """A job that was submitted before; raises NotFound."""
        if job_id not in self._jobs:
            raise NotFound(f"There is no job {job_id}.", "NOT_FOUND", ["id"], job_id)
        return self._jobs[job_id]

    def run_due(self) -> int:
        """Run everything that is due now, in order of priority; how many attempts that were."""
        ran = 0
        while ran < MAX_ATTEMPTS_RUN:
            for job in self._jobs.values():
                self._wake_if_due(job)
            waiting = [job for job in self._jobs.values() if job.status() is JobStatus.QUEUED]
            if not waiting:
                return ran
            job = min(waiting, key=lambda one: one._state.priority)
            job._attempt(self._handler_of(job))
            ran += 1
        raise RuntimeError(f"Handlers ran {MAX_ATTEMPTS_RUN} times and there is still more to do; is there a loop?")

    def advance(self, by: str | float | timedelta) -> int:
        """Move the virtual time on, running on the way what comes due; how many attempts that were."""
        until = self.now_ms + round(JobSpec(handler="x", in_=by).as_input()["delaySeconds"] * 1000)
        ran = self.run_due()
        while (at := self._next_ms()) is not None and at <= until:
            self.now_ms = max(self.now_ms, at)
            ran += self.run_due()
        self.now_ms = until
        return ran

    def run(self, job: InlineJob) -> None:
        """Run one job to its end, moving the virtual time where it has to wait."""
        for _ in range(MAX_ATTEMPTS_RUN):
            if job.status() in TERMINAL:
                return
            due = next_timer_ms(job._state)
            if due is not None:
                self.now_ms = max(self.now_ms, due)
                self._wake_if_due(job)
            job._attempt(self._handler_of(job))
        raise RuntimeError(f"Job {job.id} did not end within {MAX_ATTEMPTS_RUN} attempts.")

    def _submit(self, spec: JobSpec) -> InlineJob:
        given = spec.as_input()
        if isinstance(spec.handler, Handler):
            self._handlers[spec.handler.name] = spec.handler
        if given["handler"] not in self._handlers:
            raise InvalidInput(
                f"No handler '{given['handler']}' here; give the function itself, or name it: inline(send_email).",
                "INVALID",
                ["handler"],
                given["handler"],
            )
        command = self._command(spec, given)
        known = self._known(spec, given)
        if known is not None:
            return known
        stream = job_stream(TENANT, spec.command_id)
        decided: Any = jobs.decide(stream, None, command, self.now_ms)
        assert isinstance(decided, list)
        submitted, *rest = decided
        assert isinstance(submitted, e.JobSubmitted)
        state = jobs.create(stream, submitted, Lineage(tags=dict(spec.tags)))
        for event in rest:
            evolve(state, event)
        job = self._jobs[spec.command_id] = InlineJob(self, state, decided)
        if spec.idempotency_key is not None:
            self._keys[spec.idempotency_key] = (_digest(given), job)
        return job

    def _known(self, spec: JobSpec, given: Mapping[str, Any]) -> InlineJob | None:
        """The job that has the idempotency key already; raises IdempotencyKeyReused when it is another one."""
        digest, job = self._keys.get(spec.idempotency_key or "", ("", None))
        if job is not None and digest != _digest(given):
            raise IdempotencyKeyReused(
                f"The key '{spec.idempotency_key}' was used with another job.",
                "IDEMPOTENCY_KEY_REUSED",
                ["idempotencyKey"],
                spec.idempotency_key,
            )
        return job

    def _command(self, spec: JobSpec, given: Mapping[str, Any]) -> c.SubmitJob:
        size = len(given["payloadText"].encode())
        if size > MAX_PAYLOAD_BYTES:
            raise InvalidInput(f"payload has {size} bytes, but at most {MAX_PAYLOAD_BYTES}.", "INVALID", ["payload"])
        if not 1 <= spec.priority <= 5:
            raise InvalidInput(f"priority is {spec.priority}, but must be 1 to 5.", "INVALID", ["priority"])
        due = None
        if spec.at is not None:
            due = int(spec.at.timestamp() * 1000)
        elif "delaySeconds" in given:
            due = self.now_ms + round(given["delaySeconds"] * 1000)
        retry = RetryPolicy(max_attempts=spec.retry) if isinstance(spec.retry, int) else spec.retry or RetryPolicy()
        return c.SubmitJob(
            handler=given["handler"],
            queue=spec.queue,
            payload=Opaque(given["payloadText"]),
            priority=spec.priority,
            due_at_ms=due,
            retry=retry,
            timeout_seconds=given.get("timeoutSeconds"),
        )

    def _handler_of(self, job: InlineJob) -> Handler[..., Any]:
        return self._handlers[job._state.handler]

    def _wake_if_due(self, job: InlineJob) -> None:
        due = next_timer_ms(job._state)
        if due is not None and due <= self.now_ms:
            job._wake(due)

    def _next_ms(self) -> int | None:
        timers = (next_timer_ms(job._state) for job in self._jobs.values())
        return min((at for at in timers if at is not None), default=None)


@contextmanager
def inline(*handlers: Handler[..., Any], start: datetime | None = None) -> Iterator[InlineClient]:
    """A client whose jobs run in this process; `start` sets the virtual clock (else it begins now).

    with inline() as client:
        assert client.submit(send_email, {"to": "a@b"}).result() == {"sent": True}
    """
    yield InlineClient(handlers, start)


def _digest(given: Mapping[str, Any]) -> str:
    """Of everything that makes a submission, but the command's id."""
    rest = {name: value for name, value in given.items() if name != "commandId"}
    return sha256(msgspec.json.encode(rest, order="deterministic")).hexdigest()


def _run(attempt: Attempt, limit: float | None) -> tuple[AttemptEnd, bool]:
    """Call the handler; async ones get their real limit, plain ones run as long as they like."""
    if attempt.handler.run_in != "loop":
        return call(attempt), False

    async def bounded() -> tuple[AttemptEnd, bool]:
        task = asyncio.ensure_future(call_async(attempt))
        done, _ = await asyncio.wait({task}, timeout=limit)
        if not done:
            attempt.cancel.set("TIMEOUT")
            task.cancel()
            return await task, True
        return task.result(), False

    return _in_fresh_loop(bounded)


def _in_fresh_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a loop of its own; in a thread where this one has a loop already (an async test)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(work())), name="inline")
    thread.start()
    thread.join()
    return found[0]
