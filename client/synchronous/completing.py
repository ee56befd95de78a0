# Written by scripts/sync-client from client/asynchronous/completing.py: change that, and run it again.
"""The ends of many jobs as they come."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeVar

from jobledger.client.deadline import Deadline
from jobledger.client.errors import NotFound, WaitTimeout
from jobledger.client.operations import documents, inputs
from jobledger.client.positions import earliest
from jobledger.client.synchronous.calls import Calls
from jobledger.client.synchronous.following import END_TYPES, follow
from jobledger.client.synchronous.jobs import Job
from jobledger.domain.job.state import TERMINAL, JobStatus

Result = TypeVar("Result")
PAGE = 100
#: Jobs that one subscription can name; for more it gets the ends of all.
MAX_IDS = 1_000


def as_completed(
    client: Calls, jobs: Sequence[Job[Result]], timeout: float | None, deadline: Deadline
) -> Generator[Job[Result], None]:
    """The jobs in the order of their ends: those that ended before first, then by one subscription for all."""
    left: dict[str, list[Job[Result]]] = {}
    for job in jobs:
        left.setdefault(job.id, []).append(job)
    statuses: dict[str, JobStatus] = {}
    try:
        seen = _statuses(client, list(left), statuses, deadline)
        for job_id in [one for one in left if statuses[one] in TERMINAL]:
            for job in left.pop(job_id):
                yield job
        if not left:
            return
        wanted: inputs.JobEventFilter = {"types": END_TYPES}
        if len(left) <= MAX_IDS:
            wanted["jobIds"] = list(left)
        with closing(follow(client, lambda at: documents.follow_ends(wanted, at), seen, deadline)) as items:
            for item in items:
                for job in left.pop(item["jobId"], ()):
                    yield job
                if not left:
                    return
    except TimeoutError as error:
        first = next(iter(left))
        raise WaitTimeout(first, timeout or 0, statuses.get(first), len(left) - 1) from error


def _statuses(client: Calls, ids: Sequence[str], found: dict[str, JobStatus], deadline: Deadline) -> str | None:
    """Fill in the statuses of all jobs; the position from which none of their later events is missed."""
    positions: list[str] = []
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        wanted: inputs.JobFilter = {"ids": list(part)}
        page = client.ask(partial(documents.read_statuses, PAGE, wanted), deadline)
        found.update({edge["node"]["id"]: JobStatus(edge["node"]["status"]) for edge in page["edges"]})
        positions.append(page["position"])
        missing = next((one for one in part if one not in found), None)
        if missing is not None:
            raise NotFound(f"There is no job {missing}.", "NOT_FOUND", ["id"], missing)
    return earliest(positions)
