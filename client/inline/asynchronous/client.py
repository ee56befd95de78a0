"""The inline client in an event loop: async handlers run in the loop of the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, Generic, NoReturn, Self, TypeVar, Unpack, overload

from jobledger.client.answers import checked_timeout
from jobledger.client.errors import BulkError, InvalidInput, JobCancelled, JobFailed
from jobledger.client.inline.record import Record
from jobledger.client.inline.running import run_attempt_async
from jobledger.client.inline.scheduler import MAX_ATTEMPTS_RUN, InlineScheduler
from jobledger.client.models import JobEvent, JobPage, JobView, QueueView, ServiceLevelView, WorkerView
from jobledger.client.primitives import AsyncLock
from jobledger.client.questions import QueueOptions, checked_days
from jobledger.client.results import read_result
from jobledger.client.spec import NO_PAYLOAD, JobOptions, JobSpec, spec_of
from jobledger.domain.job.state import JobStatus
from jobledger.domain.service_levels import WINDOW_DAYS
from jobledger.workers.context import Context
from jobledger.workers.handler import Handler

Payload = TypeVar("Payload")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class AsyncInlineJob(Generic[Result_co]):
    """A job of the inline client; see AsyncJob. `attempts`, `last_checkpoint` and `history()` are its own."""

    def __init__(
        self,
        client: AsyncInlineClient,
        job_id: str,
        position: str | None = None,
        duplicate: bool = False,
        handler: Handler[..., Any] | None = None,
    ) -> None:
        self._client = client
        self._handler = handler
        self.id = job_id
        self.position = position
        self.duplicate = duplicate

    def __repr__(self) -> str:
        return f"<job {self.id}>"

    @property
    def _record(self) -> Record:
        return self._client.record(self.id)

    @property
    def attempts(self) -> int:
        """Attempts begun so far."""
        return self._record.attempts

    @property
    def last_checkpoint(self) -> Any:
        """What its handler saved last; None if nothing was."""
        return self._record.checkpoint

    def history(self) -> list[JobEvent]:
        """What has happened to it so far; nothing runs for the question."""
        return list(self._record.events)

    async def view(self) -> JobView:
        """All of it as it is now; nothing runs for the question."""
        return self._record.view()

    async def status(self) -> JobStatus:
        """Its status now; nothing runs for the question."""
        return self._record.state.status

    async def cancel(self, reason: str | None = None) -> JobStatus | None:
        """Stop it before it runs (again), or while it runs; raises AlreadyEnded."""
        return self._record.cancel(reason)

    async def redrive(self, reason: str | None = None) -> JobStatus | None:
        """Run it again after it was given up; raises InvalidState, AlreadyEnded."""
        return self._record.redrive(reason)

    async def discard(self, reason: str | None = None) -> JobStatus | None:
        """Close it for good after it was given up; raises InvalidState, AlreadyEnded."""
        return self._record.discard(reason)

    async def result(self, timeout: float | None = None) -> Result_co:
        """Run it to its end, attempt by attempt, moving the clock where it has to wait; then as the real client.

        Raises JobFailed, JobCancelled and ResultMismatch. `timeout` is there for likeness; nothing waits here.
        """
        view = await self.wait(timeout)
        if view.status is JobStatus.SUCCEEDED:
            result: Result_co = read_result(self._handler, self.id, view.result)
            return result
        if view.status is JobStatus.CANCELLED:
            raise JobCancelled(self.id, view.cancel_reason)
        raise JobFailed(self.id, view.dead_letter_cause, view.error_type, view.error, view.attempt)

    async def wait(self, timeout: float | None = None) -> JobView:
        """Run it to its end, whatever that is."""
        if timeout is not None:
            checked_timeout(timeout)
        await self._client.finish(self._record)
        return self._record.view()

    async def events(self, after: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """Its events from the first one (or behind `after`) to the one that ends it, which it runs to."""
        seen = 0
        if after is not None:
            seen = next((event.version for event in self._record.events if event.position == after), 0)
        while True:
            for event in self._record.events[seen:]:
                seen = event.version
                yield event
            if self._record.ended and seen == len(self._record.events):
                return
            if not self._record.ended:
                await self._client.step(self._record)


class AsyncInlineClient:
    """Looks like AsyncClient and runs its jobs here. Handlers given by name have to be named to `inline(…)`.

    Time is virtual. `now`, `run_due` and `advance` are its own.
    """

    def __init__(self, handlers: Iterable[Handler[..., Any]] = (), start: datetime | None = None) -> None:
        self._scheduler = InlineScheduler(handlers, start)
        self._locks: dict[str, AsyncLock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing is open here."""

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return datetime.fromtimestamp(self._scheduler.log.now_ms / 1000, UTC)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    @overload
    async def submit(
        self,
        handler: Handler[Concatenate[Payload, ...], Coroutine[Any, Any, Result]],
        payload: Payload | Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> AsyncInlineJob[Result]: ...
    @overload
    async def submit(
        self,
        handler: Handler[Concatenate[Payload, ...], Result],
        payload: Payload | Mapping[str, Any],
        **options: Unpack[JobOptions],
    ) -> AsyncInlineJob[Result]: ...
    @overload
    async def submit(
        self,
        handler: Handler[[], Coroutine[Any, Any, Result]] | Handler[[Context], Coroutine[Any, Any, Result]],
        payload: object = ...,
        **options: Unpack[JobOptions],
    ) -> AsyncInlineJob[Result]: ...
    @overload
    async def submit(
        self,
        handler: Handler[[], Result] | Handler[[Context], Result],
        payload: object = ...,
        **options: Unpack[JobOptions],
    ) -> AsyncInlineJob[Result]: ...
    @overload
    async def submit(
        self, handler: str, payload: object = ..., **options: Unpack[JobOptions]
    ) -> AsyncInlineJob[Any]: ...
    async def submit(
        self, handler: str | Handler[..., Any], payload: object = NO_PAYLOAD, **options: Unpack[JobOptions]
    ) -> AsyncInlineJob[Any]:
        """Take a job in; it runs when its result is asked for, or by `run_due` and `advance`. Raises InvalidInput."""
        spec = spec_of(handler, payload, options)
        record, duplicate = self._scheduler.submit(spec)
        return self._job_of(spec, record, duplicate)

    def _job_of(self, spec: JobSpec, record: Record, duplicate: bool) -> AsyncInlineJob[Any]:
        handler = spec.handler if isinstance(spec.handler, Handler) else None
        return AsyncInlineJob(self, record.id, record.position(), duplicate, handler)

    @overload
    async def run(
        self,
        handler: Handler[Concatenate[Payload, ...], Coroutine[Any, Any, Result]],
        payload: Payload | Mapping[str, Any],
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    async def run(
        self,
        handler: Handler[Concatenate[Payload, ...], Result],
        payload: Payload | Mapping[str, Any],
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    async def run(
        self,
        handler: Handler[[], Coroutine[Any, Any, Result]] | Handler[[Context], Coroutine[Any, Any, Result]],
        payload: object = ...,
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    async def run(
        self,
        handler: Handler[[], Result] | Handler[[Context], Result],
        payload: object = ...,
        *,
        wait_timeout: float | None = ...,
        **options: Unpack[JobOptions],
    ) -> Result: ...
    @overload
    async def run(
        self, handler: str, payload: object = ..., *, wait_timeout: float | None = ..., **options: Unpack[JobOptions]
    ) -> Any: ...
    async def run(
        self,
        handler: Any,
        payload: Any = NO_PAYLOAD,
        *,
        wait_timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Submit a job as `submit` does, run it to its end and return its result as `job.result` does."""
        job: AsyncInlineJob[Any] = await self.submit(handler, payload, **options)
        return await job.result(wait_timeout)

    async def submit_many(self, specs: Iterable[JobSpec]) -> list[AsyncInlineJob[Any]]:
        """Take many jobs in; their handles in order, `duplicate` among them. Raises BulkError for some of them."""
        given = list(specs)
        taken, errors = self._scheduler.submit_many(given)
        jobs = [None if one is None else self._job_of(spec, *one) for spec, one in zip(given, taken, strict=True)]
        if errors:
            raise BulkError(jobs, errors)
        return [job for job in jobs if job is not None]

    def job(self, job_id: str) -> AsyncInlineJob[Any]:
        """A job that was submitted before; asks nobody."""
        return AsyncInlineJob(self, job_id)

    async def job_view(self, job_id: str, after: str | None = None) -> JobView:
        """A job as it is now; raises NotFound."""
        return self._scheduler.record(job_id).view()

    async def jobs(
        self,
        *,
        status: Sequence[JobStatus | str] = (),
        queue: str | None = None,
        handler: str | None = None,
        tags: Mapping[str, str] | None = None,
        first: int = 50,
        after: str | None = None,
    ) -> JobPage:
        """A page of jobs, newest first."""
        return self._scheduler.page(status, queue, handler, tags, first, after)

    async def as_completed(
        self, jobs: Iterable[AsyncInlineJob[Result]], timeout: float | None = None
    ) -> AsyncGenerator[AsyncInlineJob[Result], None]:
        """The jobs as they end, however they end; runs them in the order in which they are due."""
        if timeout is not None:
            checked_timeout(timeout)
        left = list(jobs)
        while left:
            ended = [job for job in left if job._record.ended]
            left = [job for job in left if not job._record.ended]
            for job in ended:
                yield job
            if not ended:
                await self.step(self._scheduler.soonest(job._record for job in left))

    async def cancel(
        self, job_id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobStatus | None:
        """Cancel a job; its status after the decision. Raises AlreadyEnded, NotFound."""
        return self._scheduler.record(job_id).cancel(reason)

    async def redrive(
        self, job_id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobStatus | None:
        """Run a dead-lettered job again; its status after that. Raises InvalidState, AlreadyEnded, NotFound."""
        return self._scheduler.record(job_id).redrive(reason)

    async def discard(
        self, job_id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobStatus | None:
        """Close a dead-lettered job for good; its status after that. Raises as `redrive` does."""
        return self._scheduler.record(job_id).discard(reason)

    # -- queues and workers -------------------------------------------------------------------------------------------

    async def create_queue(self, name: str, **settings: Unpack[QueueOptions]) -> str:
        """Note a queue; jobs may go to any name here. Raises AlreadyExists."""
        return self._scheduler.create_queue(name, settings)

    async def update_queue(self, name: str, **settings: Unpack[QueueOptions]) -> str:
        """Change what is given; raises NotFound."""
        return self._scheduler.update_queue(name, settings)

    async def queues(self, after: str | None = None) -> list[QueueView]:
        """All queues that were created or used."""
        return self._scheduler.queues()

    async def workers(self, queue: str | None = None) -> list[WorkerView]:
        """None: the client runs the jobs itself."""
        return []

    async def slo(self, window_days: int = WINDOW_DAYS) -> list[ServiceLevelView]:
        """The service level objectives. Nothing counts for them here, where time is virtual."""
        return self._scheduler.service_levels(checked_days(window_days))

    async def execute(self, query: str, variables: Mapping[str, Any] | None = None) -> NoReturn:
        """There is no GraphQL here; raises InvalidInput."""
        problem = "query can't be asked here: the inline client has no GraphQL; use `jobledger dev --ephemeral`."
        raise InvalidInput(problem, "INVALID", ["query"], f"{query:.120}")

    # -- running ------------------------------------------------------------------------------------------------------

    async def run_due(self) -> int:
        """Run everything that is due now, in order of priority; how many attempts that were."""
        ran = 0
        while ran < MAX_ATTEMPTS_RUN:
            record = self._scheduler.due()
            if record is None:
                return ran
            await self.step(record)
            ran += 1
        raise RuntimeError(f"Handlers ran {MAX_ATTEMPTS_RUN} times and there is still more to do; is there a loop?")

    async def advance(self, by: str | float | timedelta) -> int:
        """Move the virtual time on, running on the way what comes due; how many attempts that were."""
        until = self._scheduler.until_ms(by)
        ran = await self.run_due()
        while (at := self._scheduler.next_ms()) is not None and at <= until:
            self._scheduler.log.move_to(at)
            ran += await self.run_due()
        self._scheduler.log.move_to(until)
        return ran

    def record(self, job_id: str) -> Record:
        """What is known of a job; raises NotFound."""
        return self._scheduler.record(job_id)

    async def finish(self, record: Record) -> None:
        """Run one job to its end, moving the virtual time where it has to wait."""
        for _ in range(MAX_ATTEMPTS_RUN):
            if record.ended:
                return
            await self.step(record)
        raise RuntimeError(f"Job {record.id} did not end within {MAX_ATTEMPTS_RUN} attempts.")

    async def step(self, record: Record) -> None:
        """One attempt of a job; waits for the one that another caller runs now."""
        async with self._locks.setdefault(record.id, AsyncLock()):
            self._scheduler.move_to(record)
            if record.state.status is JobStatus.QUEUED:
                await run_attempt_async(record, self._scheduler.handler_of(record))
