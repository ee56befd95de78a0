"""The synchronous client: the asynchronous one, run by an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from jobledger.domain.job_state import JobStatus
from jobledger.domain.values import RetryPolicy
from jobledger.workers.client.client import AsyncClient
from jobledger.workers.client.errors import BulkError
from jobledger.workers.client.jobs import AsyncJob
from jobledger.workers.client.models import JobEvent, JobPage, JobSpec, JobView, QueueView, WorkerView
from jobledger.workers.handler import Handler

T = TypeVar("T")


class _Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobledger-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine; an interrupt of the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous iterator, closed with this one."""
        try:
            while True:
                try:
                    yield self.run(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            self.run(_close(items))

    def close(self) -> None:
        """Stop the thread; may be called twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()


class Job:
    """A job by its id; see AsyncJob."""

    def __init__(self, loop: _Loop, job: AsyncJob) -> None:
        self._loop = loop
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job)

    @property
    def id(self) -> str:
        """Its id."""
        return self._job.id

    @property
    def position(self) -> str | None:
        """The position from which readers see it."""
        return self._job.position

    @property
    def duplicate(self) -> bool:
        """Whether the submission met an earlier one."""
        return self._job.duplicate

    def view(self) -> JobView:
        """All that the read model shows of it."""
        return self._loop.run(self._job.view())

    def status(self) -> JobStatus:
        """Its status now."""
        return self._loop.run(self._job.status())

    def cancel(self, reason: str | None = None) -> JobStatus | None:
        """Stop it."""
        return self._loop.run(self._job.cancel(reason))

    def result(self, timeout: float | None = None) -> Any:
        """Wait for its end and return what its handler returned; raises JobFailed, JobCancelled, TimeoutError."""
        return self._loop.run(self._job.result(timeout))

    def wait(self, timeout: float | None = None) -> JobView:
        """Wait for its end, whatever it is."""
        return self._loop.run(self._job.wait(timeout))

    def events(self, after: str | None = None) -> Iterator[JobEvent]:
        """Its events up to the one that ends it."""
        return self._loop.each(self._job.events(after))


class Client:
    """Talks to one API; every call waits for its answer. See AsyncClient for parameters and errors.

    with Client() as client:
        print(client.submit("send_email", {"to": "a@b"}).result(timeout=30))
    """

    def __init__(
        self, url: str | None = None, *, timeout: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self._loop = _Loop()

        async def make() -> AsyncClient:
            return AsyncClient(url, timeout=timeout, headers=headers)

        self._client = self._loop.run(make())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Address of the API."""
        return self._client.url

    def close(self) -> None:
        """Close the connections; may be called twice."""
        if self._loop._thread.is_alive():
            self._loop.run(self._client.close())
        self._loop.close()

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
        parent: str | None = None,
        command_id: str | None = None,
    ) -> Job:
        """Submit a job."""
        job = self._client.submit(
            handler,
            payload,
            at=at,
            in_=in_,
            queue=queue,
            priority=priority,
            tags=tags,
            idempotency_key=idempotency_key,
            retry=retry,
            timeout=timeout,
            parent=parent,
            command_id=command_id,
        )
        return Job(self._loop, self._loop.run(job))

    def submit_many(self, specs: Iterable[JobSpec]) -> list[Job]:
        """Submit many jobs; raises BulkError when some were not accepted."""
        try:
            return [Job(self._loop, job) for job in self._loop.run(self._client.submit_many(specs))]
        except BulkError as error:
            jobs = [Job(self._loop, job) if isinstance(job, AsyncJob) else None for job in error.jobs]
            raise BulkError(jobs, error.errors) from None

    def job(self, job_id: str) -> Job:
        """A job that was submitted before."""
        return Job(self._loop, self._client.job(job_id))

    def jobs(
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
        page = self._client.jobs(status=status, queue=queue, handler=handler, tags=tags, first=first, after=after)
        return self._loop.run(page)

    def cancel(self, job_id: str, reason: str | None = None) -> JobStatus | None:
        """Cancel a job."""
        return self._loop.run(self._client.cancel(job_id, reason))

    def create_queue(self, name: str, *, max_waiting_bytes: int | None = None, description: str = "") -> str:
        """Create a queue."""
        made = self._client.create_queue(name, max_waiting_bytes=max_waiting_bytes, description=description)
        return self._loop.run(made)

    def update_queue(self, name: str, *, max_waiting_bytes: int | None = None, description: str | None = None) -> str:
        """Change a queue."""
        made = self._client.update_queue(name, max_waiting_bytes=max_waiting_bytes, description=description)
        return self._loop.run(made)

    def queues(self, after: str | None = None) -> list[QueueView]:
        """All queues."""
        return self._loop.run(self._client.queues(after))

    def workers(self, queue: str | None = None) -> list[WorkerView]:
        """Workers that are registered."""
        return self._loop.run(self._client.workers(queue))

    def execute(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any GraphQL query or mutation; its `data`."""
        return self._loop.run(self._client.execute(query, variables))
