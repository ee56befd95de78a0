"""Queries: waits for positions, asks the read model, and turns what it says into types of the schema."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from strawberry.dataloader import DataLoader

from jobledger.domain.identity import split_stream
from jobledger.domain.queue.settings import DEFAULT_QUEUE, DEFAULT_SETTINGS
from jobledger.domain.spec import JobSpec
from jobledger.eventlog.positions import Vector, encode_position, reached
from jobledger.graphql.convert import attempt_of, event_of, job_of, queue_id, queue_of, workers_of
from jobledger.graphql.cursors import Cursors
from jobledger.graphql.event_tail import EventTail
from jobledger.graphql.filters import job_filter
from jobledger.graphql.options import shown_options
from jobledger.graphql.outcome_answers import error_of
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.graphql.scalars import Cursor, Json, Position
from jobledger.graphql.types.errors import ErrorCode, QueryError, user_error
from jobledger.graphql.types.inputs import JobFilter, JobOrder
from jobledger.graphql.types.jobs import (
    MAX_PAGE,
    Attempt,
    Job,
    JobConnection,
    JobEdge,
    JobEventConnection,
    JobEventEdge,
)
from jobledger.graphql.types.nodes import Node, PageInfo
from jobledger.graphql.types.queues import Command, CommandStatus, PartitionLag, Queue, ReadModel, Worker
from jobledger.projections import pages, rows
from jobledger.projections import read_model as projections
from jobledger.schemas.outcomes import OutcomeStatus

WAIT_SECONDS = 5.0
MAX_LISTED = 1_000
_NEWEST, _OLDEST, _DEAD = "jobs-newest", "jobs-oldest", "dead-letters"


@contextlib.contextmanager
def read_model_errors() -> Any:
    """The read model being away, as the coded error of a query."""
    try:
        yield
    except projections.ReadModelUnavailableError as error:
        problem = f"The read model can't be asked now ({error})".replace(".)", ")")
        raise QueryError(user_error(ErrorCode.UNAVAILABLE, problem, "try again later")) from error


class Reads:
    """The queries of one request, for one tenant."""

    def __init__(
        self,
        model: projections.ReadModel,
        outcomes: OutcomeTail,
        tail: EventTail,
        cell: str,
        partitions: int,
        tenant: str,
        clock_ms: Callable[[], int],
    ) -> None:
        self._model = model
        self._outcomes = outcomes
        self._tail = tail
        self._cell = cell
        self._tenant = tenant
        self._clock_ms = clock_ms
        self.cursors = Cursors(cell, tenant, partitions)
        self._attempts: DataLoader[str, list[Attempt]] = DataLoader(
            self._load_attempts, max_batch_size=MAX_PAGE, cache=False
        )
        self._options: DataLoader[str, Json] = DataLoader(self._load_options, max_batch_size=MAX_PAGE, cache=False)
        self._queues: DataLoader[str, Queue | None] = DataLoader(
            self._load_queues, max_batch_size=MAX_PAGE, cache=False
        )

    async def wait_for(self, after: Position | None) -> None:
        """Wait until the read model has seen a position."""
        if not after:
            return
        vector = self.cursors.read_position(after)
        with read_model_errors():
            if await self._model.wait_for(vector, WAIT_SECONDS):
                return
        raise QueryError(
            user_error(
                ErrorCode.POSITION_NOT_REACHED,
                f"The read model has not seen the position within {WAIT_SECONDS:g} s",
                "try again later, or ask without `after`",
                ["after"],
                after,
            )
        )

    async def job(self, job_id: str, after: Position | None) -> Job | None:
        """A job by id."""
        await self.wait_for(after)
        uuid = _uuid(job_id)
        if uuid is None:
            return None
        with read_model_errors():
            row = await self._model.job(self._tenant, uuid)
        return None if row is None else job_of(row)

    async def jobs(
        self,
        wanted: JobFilter | None,
        first: int,
        after: Cursor | None,
        order: JobOrder | None,
        position: Position | None,
    ) -> JobConnection:
        """A page of jobs."""
        oldest = order is JobOrder.OLDEST
        ordering = _OLDEST if oldest else _NEWEST
        start, match = self._page_start(ordering, wanted, first, after)
        await self.wait_for(position)
        by = pages.JobOrder.OLDEST_FIRST if oldest else pages.JobOrder.NEWEST_FIRST
        async with self._snapshot() as view:
            page = await view.jobs(self._tenant, match, first=first, after=start, order=by)
        return self._connection(ordering, page, view.vector, start is not None)

    async def dead_letters(
        self, wanted: JobFilter | None, first: int, after: Cursor | None, position: Position | None
    ) -> JobConnection:
        """A page of dead letters."""
        start, match = self._page_start(_DEAD, wanted, first, after)
        await self.wait_for(position)
        async with self._snapshot() as view:
            page = await view.dead_letters(self._tenant, match, first=first, after=start)
        return self._connection(_DEAD, page, view.vector, start is not None)

    @contextlib.asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Any]:
        with read_model_errors():
            async with self._model.snapshot() as view:
                yield view

    def _page_start(
        self, ordering: str, wanted: JobFilter | None, first: int, after: Cursor | None
    ) -> tuple[pages.JobCursor | None, pages.JobFilter]:
        check_first(first)
        return (self.cursors.read_job(ordering, after) if after else None), job_filter(wanted)

    def _connection(self, ordering: str, page: pages.Page[rows.JobRow], seen: Vector, later: bool) -> JobConnection:
        edges = []
        for row in page.items:
            place = row.ended_cursor if ordering == _DEAD else row.cursor
            assert place is not None
            edges.append(JobEdge(cursor=self.cursors.write(ordering, *place), node=job_of(row)))
        return JobConnection(
            edges=edges,
            page_info=page_info([edge.cursor for edge in edges], page.has_next, later),
            position=Position(encode_position(self._cell, seen)),
        )

    async def attempts(self, job_id: str) -> list[Attempt]:
        """The hand-outs of a job."""
        return await self._attempts.load(job_id)

    async def _load_attempts(self, ids: list[str]) -> list[list[Attempt]]:
        with read_model_errors():
            found = await self._model.attempts_of(self._tenant, ids)
        return [[attempt_of(row) for row in found.get(job_id, ())] for job_id in ids]

    async def options(self, job_id: str) -> Json:
        """What the submission of a job asked for beyond what its type shows."""
        return await self._options.load(job_id)

    async def _load_options(self, ids: list[str]) -> list[Json]:
        with read_model_errors():
            found = await self._model.submissions_of(self._tenant, ids)
        submitted = {one: row.record().data for one, row in found.items()}
        return [Json(shown_options(spec) if isinstance(spec := submitted.get(one), JobSpec) else {}) for one in ids]

    async def job_events(self, job_id: str, first: int, after: Cursor | None) -> JobEventConnection:
        """A page of a job's events."""
        check_first(first)
        ordering = f"events-{job_id}"
        start = self.cursors.read_number(ordering, after) if after else 0
        with read_model_errors():
            page = await self._model.job_events(self._tenant, job_id, after=start, first=first)
        edges = []
        for row in page.items:
            position = encode_position(self._cell, {row.partition: row.seq})
            node = event_of(row.record(), row.partition, position)
            edges.append(JobEventEdge(cursor=self.cursors.write(ordering, row.version), node=node))
        info = page_info([edge.cursor for edge in edges], page.has_next, start > 0)
        return JobEventConnection(edges=edges, page_info=info)

    async def queue(self, name: str) -> Queue | None:
        """A queue by name; `default` always exists."""
        return None if _impossible(name) else await self._queues.load(name)

    async def _load_queues(self, names: list[str]) -> list[Queue | None]:
        with read_model_errors():
            found = await self._model.queues_by_name(self._tenant, names)
        return [queue_of(found[name]) if name in found else _uncreated(name) for name in names]

    async def queues(self, after: Position | None) -> list[Queue]:
        """All queues."""
        await self.wait_for(after)
        with read_model_errors():
            page = await self._model.queues(self._tenant, first=MAX_LISTED)
        found = [queue_of(row) for row in page.items]
        default = _uncreated(DEFAULT_QUEUE)
        if default is not None and all(queue.name != DEFAULT_QUEUE for queue in found):
            found.append(default)
        return sorted(found, key=lambda queue: queue.name)

    async def workers(self, queue: str | None, after: Position | None) -> list[Worker]:
        """Registered workers."""
        await self.wait_for(after)
        if queue and _impossible(queue):
            return []
        with read_model_errors():
            page = await self._model.workers(self._tenant, queue=queue or None, first=MAX_LISTED)
        return workers_of(page.items)

    async def command(self, command_id: str, after: Position | None) -> Command:
        """What became of a command."""
        await self.wait_for(after)
        uuid = _uuid(command_id) or command_id
        outcome = self._outcomes.known(uuid)
        if outcome is not None and split_stream(outcome.stream)[1] == self._tenant:
            kind, _, name = split_stream(outcome.stream)
            rejected = outcome.status is OutcomeStatus.REJECTED
            return Command(
                id=uuid,  # type: ignore[arg-type]
                status=CommandStatus(outcome.status.value),
                job_id=name if kind == "job" and not rejected else None,  # type: ignore[arg-type]
                position=Position(encode_position(self._cell, {outcome.partition: outcome.seq})),
                at=outcome.at_ms,  # type: ignore[arg-type]
                error=error_of(outcome, ["id"], None) if rejected else None,
            )
        if _impossible(uuid):
            return self._command_of(uuid, [])
        with read_model_errors():
            events = await self._model.command(self._tenant, uuid)
        return self._command_of(uuid, events)

    def _command_of(self, command_id: str, events: Sequence[rows.EventRow]) -> Command:
        values: dict[str, Any] = {"id": command_id, "status": CommandStatus.PENDING, "job_id": None, "position": None}
        values |= {"at": None, "error": None}
        if events:
            first = events[0]
            kind, _, name = split_stream(first.stream)
            values["status"] = CommandStatus.ACCEPTED
            values["job_id"] = name if kind == "job" else None
            values["position"] = encode_position(self._cell, {first.partition: first.seq})
            values["at"] = first.at_ms
        return Command(**values)

    async def read_model(self, after: Position | None) -> ReadModel:
        """Position and lag of the read model."""
        await self.wait_for(after)
        with read_model_errors():
            seen = await self._model.position()
        end = self._tail.vector
        lags = [
            PartitionLag(
                partition=partition,
                seq=seen.get(partition, 0),  # type: ignore[arg-type]
                behind=max(0, end.get(partition, 0) - seen.get(partition, 0)),  # type: ignore[arg-type]
            )
            for partition in sorted({*seen, *end})
        ]
        age = 0.0
        if not reached(seen, end):
            oldest = self._tail.oldest_unseen_ms(seen)
            age = max(0, self._clock_ms() - oldest) / 1000 if oldest is not None else 0.0
        return ReadModel(
            position=Position(encode_position(self._cell, seen)),
            behind=sum(lag.behind for lag in lags),  # type: ignore[arg-type]
            behind_seconds=age,
            partitions=lags,
        )

    async def node(self, node_id: str) -> Node | None:
        """A job or a queue by global id."""
        kind, _, name = node_id.partition(":")
        if kind == "queue" and name:
            return await self.queue(name)
        return await self.job(node_id, None)


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _uncreated(name: str) -> Queue | None:
    if name != DEFAULT_QUEUE:
        return None
    values: dict[str, Any] = {"id": queue_id(name), "name": name, **msgspec.structs.asdict(DEFAULT_SETTINGS)}
    values |= {"created_at": None, "updated_at": None}
    return Queue(**values, waiting=0, waiting_bytes=0, held=0)  # type: ignore[arg-type]


def check_first(first: int) -> None:
    """Raise QueryError unless a page may have so many items."""
    if not 1 <= first <= MAX_PAGE:
        problem = f"first is {first}"
        raise QueryError(user_error(ErrorCode.INVALID, problem, f"use 1 to {MAX_PAGE}", ["first"], first))


def page_info(cursors: list[Cursor], has_next: bool, later: bool) -> PageInfo:
    """Where a page stands that has these cursors; `later`: it is not the first."""
    return PageInfo(
        has_next_page=has_next,
        has_previous_page=later,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )


def _impossible(text: str) -> bool:
    """Whether nothing can have this name or id: Postgres takes no NUL."""
    return "\x00" in text
