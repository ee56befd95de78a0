"""Asks owners what only they know: why a job waits, and the live state of a queue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobledger.domain.identity import job_stream, queue_stream
from jobledger.domain.job.state import TERMINAL, JobStatus
from jobledger.domain.queue.commands import QueryQueue
from jobledger.graphql.gateway import Gateway
from jobledger.graphql.types.errors import ErrorCode, QueryError, user_error
from jobledger.graphql.types.jobs import Job
from jobledger.graphql.types.queues import LiveQueue, LiveWorker, PriorityDepth
from jobledger.schemas.events import rfc3339

ANSWER_SECONDS = 2.0
#: Questions to owners in one request.
MAX_QUESTIONS = 25


class OwnerQuestions:
    """The questions of one operation, at most 25."""

    def __init__(self, gateway: Gateway, tenant: str, new_id: Callable[[], str]) -> None:
        self._gateway = gateway
        self._tenant = tenant
        self._new_id = new_id
        self._asked = 0

    def begin(self) -> None:
        """A new operation, perhaps on a connection that had others."""
        self._asked = 0

    async def why(self, job: Job) -> str | None:
        """Why a job is where it is, in one sentence; None when it has ended."""
        status = JobStatus(job.status)
        if status in TERMINAL:
            return None
        if status is JobStatus.SCHEDULED:
            return f"It starts at {_time(job.due_at)}."
        if status is JobStatus.RETRYING:
            at = _time(job.retry_at) if job.retry_at else "the end of its back-off"
            return f"Attempt {job.attempt} failed; the next one starts at {at}."
        if status is JobStatus.RUNNING:
            return f"Worker '{job.worker}' runs attempt {job.attempt}."
        seen = await self._ask(job.queue_name, job_stream(self._tenant, job.id))
        reason = "its queue's owner has not answered in time" if seen is None else seen.get("why", "")
        if status is JobStatus.CANCELLING:
            return f"It is being cancelled: {reason}."
        return f"It waits in queue '{job.queue_name}': {reason}."

    async def queue(self, name: str) -> LiveQueue | None:
        """The queue as its owner sees it now; None when it does not answer, or there is no such queue yet."""
        seen = await self._ask(name, None)
        if seen is None:
            return None
        depth = [PriorityDepth(priority=int(p), waiting=n) for p, n in sorted(seen["depth"].items())]
        return LiveQueue(
            waiting=sum(one.waiting for one in depth),
            waiting_by_priority=depth,
            waiting_bytes=seen["waiting_bytes"],
            held=seen["held"],
            workers=[LiveWorker(**worker) for worker in seen["workers"]],
        )

    async def _ask(self, queue: str, job: str | None) -> dict[str, Any] | None:
        self._asked += 1
        if self._asked > MAX_QUESTIONS:
            raise QueryError(
                user_error(
                    ErrorCode.INVALID,
                    f"The request asks owners more than {MAX_QUESTIONS} questions",
                    "ask for `why` and `live` of fewer jobs and queues at once",
                    ["why"],
                )
            )
        stream = queue_stream(self._tenant, queue)
        outcome = await self._gateway.ask(stream, QueryQueue(job=job), self._new_id(), ANSWER_SECONDS)
        if outcome is None or outcome.answer is None:
            return None
        seen: dict[str, Any] = msgspec.json.decode(outcome.answer.data)
        return seen


def _time(value: object) -> str:
    return rfc3339(value) if isinstance(value, int) else datetime.now(UTC).isoformat()
