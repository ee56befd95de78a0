"""The asynchronous client."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

import uuid_utils

from jobledger.domain.job_state import JobStatus
from jobledger.domain.values import RetryPolicy
from jobledger.workers.client import documents
from jobledger.workers.client.errors import BulkError, JobledgerError, NotFound, OutcomeUnknown, Unavailable, error_from
from jobledger.workers.client.jobs import AsyncJob
from jobledger.workers.client.models import (
    JobPage,
    JobSpec,
    JobView,
    QueueView,
    WorkerView,
    job_view,
    queue_view,
    worker_view,
)
from jobledger.workers.client.transport import ConnectionDropped, Transport
from jobledger.workers.handler import Handler

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8080"
MAX_JOBS_PER_BULK = 1_000
MAX_BULK_BYTES = 6 * 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class AsyncClient:
    """Talks to one API.

        async with AsyncClient("http://127.0.0.1:8080") as client:
            job = await client.submit(send_email, {"to": "a@b"})
            print(await job.result(timeout=30))

    `url`: else JOBLEDGER_API_URL. `timeout`: seconds that a call may take, with all its repeats: a command without an
    outcome is sent again under the same id until then, and OutcomeUnknown carries that id afterwards.
    """

    def __init__(
        self, url: str | None = None, *, timeout: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.url = url or os.environ.get("JOBLEDGER_API_URL") or DEFAULT_URL
        self._timeout = timeout
        self.transport = Transport(self.url, headers or {}, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        await self.transport.close()

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(  # noqa: PLR0913 - the options of a job, each by its name
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
    ) -> AsyncJob:
        """Submit a job; its parameters are those of JobSpec. Raises the API's errors, and OutcomeUnknown."""
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
            parent=parent,
            command_id=command_id or str(uuid_utils.uuid7()),
        )
        answer = await self._decided(documents.SUBMIT, spec.as_input(), "submitJob")
        return AsyncJob(self, answer["job"]["id"], answer["position"], answer["duplicate"])

    async def submit_many(self, specs: Iterable[JobSpec]) -> list[AsyncJob]:
        """Submit many jobs, a thousand to a request; in order. Raises BulkError when some were not accepted."""
        inputs = [spec.as_input() for spec in specs]
        jobs: list[AsyncJob | None] = [None] * len(inputs)
        errors: dict[int, JobledgerError] = {}
        for start, part in _parts(inputs):
            await self._submit_part(start, part, jobs, errors)
        if errors:
            raise BulkError(jobs, errors)
        return [job for job in jobs if job is not None]

    async def _submit_part(
        self,
        start: int,
        part: list[dict[str, Any]],
        jobs: list[AsyncJob | None],
        errors: dict[int, JobledgerError],
    ) -> None:
        left = list(range(len(part)))
        deadline = time.monotonic() + self._timeout
        pause = FIRST_PAUSE
        while left:
            answer = await self._bulk([part[place] for place in left], deadline)
            refused = {problem["index"]: problem for problem in answer["problems"]}
            pending: list[int] = []
            for index, place in enumerate(left):
                problem = refused.get(index)
                if problem is None:
                    jobs[start + place] = AsyncJob(self, answer["jobIds"][index], answer["position"])
                elif problem["error"] is not None:
                    errors[start + place] = error_from(problem["error"])
                else:
                    pending.append(place)
            left = pending
            if left and time.monotonic() + pause > deadline:
                errors.update({start + place: OutcomeUnknown(part[place]["commandId"]) for place in left})
                return
            if left:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _bulk(self, inputs: list[dict[str, Any]], deadline: float) -> dict[str, Any]:
        async def once() -> dict[str, Any]:
            answer: dict[str, Any] = (await self.transport.execute(documents.SUBMIT_MANY, {"input": inputs}))[
                "submitJobs"
            ]
            if "code" in answer:
                raise error_from(answer)
            return answer

        return await self.retrying(once, max(0.1, deadline - time.monotonic()))

    def job(self, job_id: str) -> AsyncJob:
        """A job that was submitted before; asks nobody."""
        return AsyncJob(self, job_id)

    async def job_view(self, job_id: str, after: str | None = None) -> JobView:
        """What the read model shows of a job, once it has seen position `after`; raises NotFound."""
        node = (await self._ask(documents.JOB, {"id": job_id, "after": after}))["job"]
        if node is None:
            raise NotFound(f"There is no job {job_id}.", "NOT_FOUND", ["id"], job_id)
        return job_view(node)

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
        wanted: dict[str, Any] = {}
        if status:
            wanted["status"] = [str(one) for one in status]
        if queue is not None:
            wanted["queue"] = queue
        if handler is not None:
            wanted["handler"] = handler
        if tags:
            wanted["tags"] = [{"name": name, "value": value} for name, value in tags.items()]
        variables = {"filter": wanted, "first": first, "after": after}
        page = (await self._ask(documents.JOBS, variables))["jobs"]
        more = page["pageInfo"]["hasNextPage"]
        return JobPage(
            jobs=[job_view(edge["node"]) for edge in page["edges"]],
            cursor=page["pageInfo"]["endCursor"] if more else None,
            position=page["position"],
        )

    async def cancel(
        self, job_id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobStatus | None:
        """Cancel a job; its status after the decision. Raises AlreadyEnded, NotFound, OutcomeUnknown."""
        given = {"id": job_id, "reason": reason, "commandId": command_id or str(uuid_utils.uuid7())}
        answer = await self._decided(documents.CANCEL, given, "cancelJob")
        status = answer["job"]["status"]
        return None if status is None else JobStatus(status)

    # -- queues and workers -------------------------------------------------------------------------------------------

    async def create_queue(self, name: str, *, max_waiting_bytes: int | None = None, description: str = "") -> str:
        """Create a queue; the position at which it is there. Raises AlreadyExists, InvalidInput."""
        given: dict[str, Any] = {"name": name, "description": description, "commandId": str(uuid_utils.uuid7())}
        if max_waiting_bytes is not None:
            given["maxWaitingBytes"] = max_waiting_bytes
        return str((await self._decided(documents.CREATE_QUEUE, given, "createQueue"))["position"])

    async def update_queue(
        self, name: str, *, max_waiting_bytes: int | None = None, description: str | None = None
    ) -> str:
        """Change what is given; the position at which it holds. Raises NotFound, InvalidInput."""
        given: dict[str, Any] = {"name": name, "commandId": str(uuid_utils.uuid7())}
        if max_waiting_bytes is not None:
            given["maxWaitingBytes"] = max_waiting_bytes
        if description is not None:
            given["description"] = description
        return str((await self._decided(documents.UPDATE_QUEUE, given, "updateQueue"))["position"])

    async def queues(self, after: str | None = None) -> list[QueueView]:
        """All queues."""
        return [queue_view(node) for node in (await self._ask(documents.QUEUES, {"after": after}))["queues"]]

    async def workers(self, queue: str | None = None) -> list[WorkerView]:
        """Workers that are registered."""
        return [worker_view(node) for node in (await self._ask(documents.WORKERS, {"queue": queue}))["workers"]]

    # -- asking -------------------------------------------------------------------------------------------------------

    async def execute(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any GraphQL query or mutation; its `data`. Sent once."""
        return await self.transport.execute(query, variables or {})

    async def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        return await self.retrying(lambda: self.transport.execute(query, variables))

    async def retrying(self, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """Repeat a call that may be repeated while the API is away or the read model is behind, up to the time-out."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        pause = FIRST_PAUSE
        while True:
            try:
                return await call()
            except JobledgerError as error:
                passing = isinstance(error, Unavailable) or error.code == "POSITION_NOT_REACHED"
                if not passing or time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _decided(self, document: str, given: dict[str, Any], field: str) -> dict[str, Any]:
        """Send a command until it is decided: the same command id, so it takes effect once."""
        deadline = time.monotonic() + self._timeout
        pause = FIRST_PAUSE
        job_id: str | None = None
        unknown = False
        while True:
            try:
                answer: dict[str, Any] = (await self.transport.execute(document, {"input": given}))[field]
                if answer["__typename"] == "Pending":
                    unknown, job_id = True, answer.get("jobId") or job_id
                elif "code" not in answer:
                    return answer
                else:
                    raise error_from(answer)
            except Unavailable as error:
                unknown = unknown or isinstance(error, ConnectionDropped)
                if time.monotonic() + pause > deadline and not unknown:
                    raise
            if time.monotonic() + pause > deadline:
                raise OutcomeUnknown(given["commandId"], job_id)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _parts(inputs: list[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """(first place, inputs) of each request: at most 1,000 jobs and 6 MiB of payload."""
    parts: list[tuple[int, list[dict[str, Any]]]] = []
    size = 0
    for place, one in enumerate(inputs):
        length = len(one["payloadText"].encode())
        if not parts or len(parts[-1][1]) >= MAX_JOBS_PER_BULK or size + length > MAX_BULK_BYTES:
            parts.append((place, []))
            size = 0
        parts[-1][1].append(one)
        size += length
    return parts
