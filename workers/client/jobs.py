"""A submitted job in the hands of its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from jobledger.domain.job_state import TERMINAL, JobStatus
from jobledger.workers.client.errors import JobCancelled, JobFailed, Unavailable
from jobledger.workers.client.models import EVENT_FIELDS, JobEvent, JobView, job_event

if TYPE_CHECKING:
    from jobledger.workers.client.client import AsyncClient

EVENTS = f"""
subscription($filter: JobEventFilter!, $after: Position, $fromStart: Boolean!) {{
  jobEvents(filter: $filter, after: $after, fromStart: $fromStart) {{
    __typename ... on JobEvent {{ {EVENT_FIELDS} }} ... on Resync {{ message position }} }} }}"""
END_TYPES = ["job.succeeded", "job.dead_lettered", "job.cancelled"]
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class AsyncJob:
    """A job by its id. `duplicate`: the submission met an earlier one, this is that job."""

    def __init__(self, client: AsyncClient, job_id: str, position: str | None = None, duplicate: bool = False) -> None:
        self._client = client
        self.id = job_id
        self.position = position
        self.duplicate = duplicate

    def __repr__(self) -> str:
        return f"<job {self.id}>"

    async def view(self) -> JobView:
        """All that the read model shows of it, its submission included; raises NotFound."""
        return await self._client.job_view(self.id, self.position)

    async def status(self) -> JobStatus:
        """Its status now; raises NotFound."""
        return (await self.view()).status

    async def cancel(self, reason: str | None = None) -> JobStatus | None:
        """Stop it: CANCELLED, or CANCELLING while a worker has still to agree; raises AlreadyEnded, NotFound."""
        return await self._client.cancel(self.id, reason)

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for its end and return what its handler returned.

        Raises JobFailed, JobCancelled, NotFound, and TimeoutError after `timeout` seconds. A dropped connection is
        opened again.
        """
        view = await self.wait(timeout)
        if view.status is JobStatus.SUCCEEDED:
            return view.result
        if view.status is JobStatus.CANCELLED:
            raise JobCancelled(self.id, view.cancel_reason)
        raise JobFailed(self.id, view.dead_letter_cause, view.error_type, view.error, view.attempt)

    async def wait(self, timeout: float | None = None) -> JobView:
        """Wait for its end, whatever it is; raises TimeoutError and NotFound."""
        async with asyncio.timeout(timeout):
            view = await self._client.retrying(self.view)
            if view.ended:
                return view
            self.position = await self._ended_at()
            return await self._client.retrying(self.view)

    async def _ended_at(self) -> str:
        """The position of its last event, as soon as there is one."""
        async with aclosing(self._follow(END_TYPES, None)) as events:
            async for event in events:
                return event.position
        raise AssertionError("a subscription goes on until it brings the end")

    async def events(self, after: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """Its events from the first one (or behind `after`) to the one that ends it, none missing or twice."""
        async with aclosing(self._follow(None, after)) as events:
            async for event in events:
                yield event
                if event.status in TERMINAL:
                    return

    async def _follow(self, types: list[str] | None, after: str | None) -> AsyncGenerator[JobEvent, None]:
        """Events for ever: goes on behind the last one when a connection breaks or the API asks to subscribe again."""
        wanted: dict[str, Any] = {"jobId": self.id, **({"types": types} if types else {})}
        pause = FIRST_PAUSE
        while True:
            variables = {"filter": wanted, "after": after, "fromStart": after is None}
            try:
                async with aclosing(self._client.transport.subscribe(EVENTS, variables)) as items:
                    async for item in items:
                        pause = FIRST_PAUSE
                        one = item["jobEvents"]
                        if one["__typename"] == "Resync":
                            after = one["position"]
                            break
                        after = one["position"]
                        yield job_event(one)
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
