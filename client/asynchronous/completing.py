"""The ends of many jobs as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from jobledger.client.asynchronous.calls import AsyncCalls
from jobledger.client.asynchronous.following import END_TYPES, follow
from jobledger.client.asynchronous.jobs import AsyncJob
from jobledger.client.deadline import Deadline
from jobledger.client.errors import NotFound, WaitTimeout
from jobledger.client.operations import documents, inputs
from jobledger.client.positions import earliest
from jobledger.domain.job.state import TERMINAL, JobStatus

Result = TypeVar("Result")
PAGE = 100
#: Jobs that one subscription can name; for more it gets the ends of all.
MAX_IDS = 1_000


async def as_completed(
    client: AsyncCalls, jobs: Sequence[AsyncJob[Result]], timeout: float | None, deadline: Deadline
) -> AsyncGenerator[AsyncJob[Result], None]:
    """The jobs in the order of their ends: those that ended before first, then by one subscription for all."""
    left: dict[str, list[AsyncJob[Result]]] = {}
    for job in jobs:
        left.setdefault(job.id, []).append(job)
    statuses: dict[str, JobStatus] = {}
    try:
        seen = await _statuses(client, list(left), statuses, deadline)
        for job_id in [one for one in left if statuses[one] in TERMINAL]:
            for job in left.pop(job_id):
                yield job
        if not left:
            return
        wanted: inputs.JobEventFilter = {"types": END_TYPES}
        if len(left) <= MAX_IDS:
            wanted["jobIds"] = list(left)
        async with aclosing(follow(client, lambda at: documents.follow_ends(wanted, at), seen, deadline)) as items:
            async for item in items:
                for job in left.pop(item["jobId"], ()):
                    yield job
                if not left:
                    return
    except TimeoutError as error:
        first = next(iter(left))
        raise WaitTimeout(first, timeout or 0, statuses.get(first), len(left) - 1) from error


async def _statuses(
    client: AsyncCalls, ids: Sequence[str], found: dict[str, JobStatus], deadline: Deadline
) -> str | None:
    """Fill in the statuses of all jobs; the position from which none of their later events is missed."""
    positions: list[str] = []
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        wanted: inputs.JobFilter = {"ids": list(part)}
        page = await client.ask(partial(documents.read_statuses, PAGE, wanted), deadline)
        found.update({edge["node"]["id"]: JobStatus(edge["node"]["status"]) for edge in page["edges"]})
        positions.append(page["position"])
        missing = next((one for one in part if one not in found), None)
        if missing is not None:
            raise NotFound(f"There is no job {missing}.", "NOT_FOUND", ["id"], missing)
    return earliest(positions)
