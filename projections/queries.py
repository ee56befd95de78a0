"""The read queries. Each carries its tenant; parameters are always bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, LiteralString, TypeVar

from jobledger.domain.identity import job_stream, split_stream
from jobledger.projections.columns import RowStruct, reader, selected
from jobledger.projections.conditions import conditions
from jobledger.projections.lost_workers import KEPT_MS
from jobledger.projections.pages import Connections, JobCursor, JobFilter, JobOrder, Overdue, Page, PoolNow
from jobledger.projections.rows import AttemptRow, EventRow, JobRow, PositionRow, QueueRow, WorkerRow
from jobledger.projections.signal_queries import SignalQueries

MAX_PAGE = 1_000
MAX_IDS = 1_000
#: Rows of attempts that one query gives at most.
MAX_ATTEMPTS = 10_000

R = TypeVar("R", bound=RowStruct)

_JOB = selected(JobRow)
_JOB_WITHOUT_PAYLOAD = selected(JobRow, without=("payload", "result", "checkpoint"))
_ATTEMPT = selected(AttemptRow)
_EVENT = selected(EventRow)
_QUEUE = selected(QueueRow)
_WORKER = selected(WorkerRow)
_POSITION = selected(PositionRow)
_job, _attempt, _event = reader(JobRow), reader(AttemptRow), reader(EventRow)
_queue, _worker, _position = reader(QueueRow), reader(WorkerRow), reader(PositionRow)


def _page(read: Callable[[dict[str, Any]], R], found: list[dict[str, Any]], first: int) -> Page[R]:
    """A page from one row more than it holds."""
    return Page(items=[read(values) for values in found[:first]], has_next=len(found) > first)


def _limit(first: int, most: int = MAX_PAGE) -> int:
    if not 1 <= first <= most:
        raise ValueError(f"first is {first}, but has to be from 1 to {most}.")
    return first + 1


def _ids(ids: Sequence[str]) -> list[str]:
    if len(ids) > MAX_IDS:
        raise ValueError(f"{len(ids)} ids are asked for at once, but {MAX_IDS} is the most.")
    return list(ids)


class Queries(SignalQueries):
    """What can be asked of the read models. `first` is 1 … 1,000, else ValueError."""

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def job(self, tenant: str, job_id: str) -> JobRow | None:
        """One job."""
        return (await self.jobs_by_id(tenant, [job_id])).get(job_id)

    async def jobs_by_id(self, tenant: str, ids: Sequence[str]) -> dict[str, JobRow]:
        """Those of up to 1,000 jobs that exist."""
        found = await self._fetch(
            f"SELECT {_JOB} FROM jobs WHERE tenant = %(tenant)s AND id = ANY(%(ids)s)",
            {"tenant": tenant, "ids": _ids(ids)},
        )
        return {values["id"]: _job(values) for values in found}

    async def jobs(
        self,
        tenant: str,
        filter: JobFilter = JobFilter(),  # noqa: B008 - immutable
        *,
        first: int = 50,
        after: JobCursor | None = None,
        order: JobOrder = JobOrder.NEWEST_FIRST,
        with_payload: bool = True,
    ) -> Page[JobRow]:
        """A page of jobs by submission. `with_payload` False leaves out payloads and results."""
        where, params = conditions(filter)
        newest = order is JobOrder.NEWEST_FIRST
        if after is not None:
            where.append(
                "(submitted_at_ms, id) < (%(at)s, %(after)s)"
                if newest
                else "(submitted_at_ms, id) > (%(at)s, %(after)s)"
            )
            params |= {"at": after.at_ms, "after": after.id}
        by: LiteralString = "submitted_at_ms DESC, id DESC" if newest else "submitted_at_ms, id"
        return await self._jobs(tenant, where, params, by, first, with_payload)

    async def dead_letters(
        self,
        tenant: str,
        filter: JobFilter = JobFilter(),  # noqa: B008 - immutable
        *,
        first: int = 50,
        after: JobCursor | None = None,
        with_payload: bool = True,
    ) -> Page[JobRow]:
        """A page of dead-lettered jobs, those that ended last first; `after` is a row's `ended_cursor`."""
        where, params = conditions(filter)
        where.append("status = 'DEAD_LETTERED'")
        if after is not None:
            where.append("(ended_at_ms, id) < (%(at)s, %(after)s)")
            params |= {"at": after.at_ms, "after": after.id}
        return await self._jobs(tenant, where, params, "ended_at_ms DESC, id DESC", first, with_payload)

    async def _jobs(
        self,
        tenant: str,
        where: list[LiteralString],
        params: dict[str, Any],
        by: LiteralString,
        first: int,
        with_payload: bool,
    ) -> Page[JobRow]:
        columns = _JOB if with_payload else _JOB_WITHOUT_PAYLOAD
        condition: LiteralString = " AND ".join(["tenant = %(tenant)s", *where])
        found = await self._fetch(
            f"SELECT {columns} FROM jobs WHERE {condition} ORDER BY {by} LIMIT %(limit)s",
            {**params, "tenant": tenant, "limit": _limit(first)},
        )
        return _page(_job, found, first)

    async def overdue(self, now_ms: int, tenant: str | None = None, grace_ms: int = 5_000) -> Overdue:
        """Jobs whose due time passed over `grace_ms` ago and that still wait for it; of all tenants if None."""
        found = await self._fetch(
            "SELECT count(*) AS count, min(due_at_ms) AS oldest_due_at_ms FROM jobs WHERE status = 'SCHEDULED'"
            " AND due_at_ms < %(before)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)",
            {"before": now_ms - grace_ms, "tenant": tenant},
        )
        return Overdue(**found[0])

    # -- attempts and events ------------------------------------------------------------------------------------------

    async def attempts(self, tenant: str, job_id: str) -> list[AttemptRow]:
        """The assignments of a job, in order."""
        return (await self.attempts_of(tenant, [job_id]))[job_id]

    async def attempts_of(self, tenant: str, ids: Sequence[str]) -> dict[str, list[AttemptRow]]:
        """The assignments of up to 1,000 jobs, 10,000 at most; a job without any has an empty list."""
        found = await self._fetch(
            f"SELECT {_ATTEMPT} FROM attempts WHERE tenant = %(tenant)s AND job_id = ANY(%(ids)s)"
            " ORDER BY job_id, task, assignment LIMIT %(limit)s",
            {"tenant": tenant, "ids": _ids(ids), "limit": MAX_ATTEMPTS},
        )
        rows: dict[str, list[AttemptRow]] = {job_id: [] for job_id in ids}
        for values in found:
            rows[values["job_id"]].append(_attempt(values))
        return rows

    async def job_events(self, tenant: str, job_id: str, *, after: int = 0, first: int = 100) -> Page[EventRow]:
        """The history of a job from version `after` + 1 on."""
        return await self.stream_events(job_stream(tenant, job_id), after=after, first=first)

    async def submissions_of(self, tenant: str, ids: Sequence[str]) -> dict[str, EventRow]:
        """The first event of those of up to 1,000 jobs that exist."""
        found = await self._fetch(
            f"SELECT DISTINCT ON (stream) {_EVENT} FROM events WHERE stream = ANY(%(streams)s) AND version = 1"
            " ORDER BY stream, seq",
            {"streams": [job_stream(tenant, job_id) for job_id in _ids(ids)]},
        )
        rows = map(_event, found)
        return {split_stream(row.stream)[2]: row for row in rows}

    async def stream_events(self, stream: str, *, after: int = 0, first: int = 100) -> Page[EventRow]:
        """The history of any stream from version `after` + 1 on."""
        found = await self._fetch(
            f"SELECT {_EVENT} FROM events WHERE stream = %(stream)s AND version > %(after)s"
            " ORDER BY version LIMIT %(limit)s",
            {"stream": stream, "after": after, "limit": _limit(first)},
        )
        return _page(_event, found, first)

    async def events(self, partition: int, *, after: int = 0, first: int = MAX_PAGE) -> Page[EventRow]:
        """The events of a partition, of all tenants, from seq `after` + 1 on."""
        found = await self._fetch(
            f"SELECT {_EVENT} FROM events WHERE partition = %(partition)s AND seq > %(after)s"
            " ORDER BY seq LIMIT %(limit)s",
            {"partition": partition, "after": after, "limit": _limit(first)},
        )
        return _page(_event, found, first)

    async def command(self, tenant: str, command_id: str) -> list[EventRow]:
        """The events that came of a user's command; none: it was rejected, changed nothing or is not applied yet."""
        found = await self._fetch(
            f"SELECT {_EVENT} FROM events WHERE command_id = %(command)s AND actor_kind = 'user'"
            " AND split_part(stream, ':', 2) = %(tenant)s ORDER BY partition, seq LIMIT %(limit)s",
            {"command": command_id, "tenant": tenant, "limit": MAX_PAGE},
        )
        return [_event(values) for values in found]

    # -- queues and workers -------------------------------------------------------------------------------------------

    async def queue(self, tenant: str, name: str) -> QueueRow | None:
        """One queue."""
        return (await self.queues_by_name(tenant, [name])).get(name)

    async def queues_by_name(self, tenant: str, names: Iterable[str]) -> dict[str, QueueRow]:
        """Those of up to 1,000 queues that exist."""
        found = await self._fetch(
            f"SELECT {_QUEUE} FROM queues WHERE tenant = %(tenant)s AND name = ANY(%(names)s)",
            {"tenant": tenant, "names": _ids(list(names))},
        )
        return {values["name"]: _queue(values) for values in found}

    async def queues(self, tenant: str, *, first: int = 100, after: str | None = None) -> Page[QueueRow]:
        """A page of queues by name."""
        found = await self._fetch(
            f"SELECT {_QUEUE} FROM queues WHERE tenant = %(tenant)s AND name > %(after)s ORDER BY name LIMIT %(limit)s",
            {"tenant": tenant, "after": after or "", "limit": _limit(first)},
        )
        return _page(_queue, found, first)

    async def workers(
        self, tenant: str, *, queue: str | None = None, first: int = 100, after: tuple[str, str] | None = None
    ) -> Page[WorkerRow]:
        """A page of worker registrations by (incarnation, queue), the oldest first; `after` is a row's `cursor`."""
        found = await self._fetch(
            f"SELECT {_WORKER} FROM workers WHERE tenant = %(tenant)s"
            " AND (%(queue)s::text IS NULL OR queue = %(queue)s)"
            " AND (incarnation, queue) > (%(incarnation)s, %(after)s) ORDER BY incarnation, queue LIMIT %(limit)s",
            {
                "tenant": tenant,
                "queue": queue,
                "incarnation": after[0] if after else "",
                "after": after[1] if after else "",
                "limit": _limit(first),
            },
        )
        return _page(_worker, found, first)

    async def pools(self, now_ms: int) -> list[PoolNow]:
        """The pools of workers of all tenants that have had any in the last hour."""
        found = await self._fetch(
            "WITH known AS (SELECT tenant, pool, worker, NOT lost AS healthy,"
            " CASE WHEN lost THEN 0 ELSE credits END AS slots, CASE WHEN lost THEN 0 ELSE held END AS busy"
            " FROM workers WHERE lost OR credits > 0"
            " UNION ALL SELECT tenant, pool, worker, false, 0, 0 FROM lost_workers WHERE lost_at_ms > %(since)s),"
            " each_one AS (SELECT pool, bool_or(healthy) AS healthy, sum(slots) AS slots, sum(busy) AS busy"
            " FROM known GROUP BY tenant, pool, worker)"
            " SELECT pool, count(*) AS registered, count(*) FILTER (WHERE healthy) AS healthy,"
            " sum(slots)::bigint AS slots, sum(busy)::bigint AS busy FROM each_one GROUP BY pool ORDER BY pool",
            {"since": now_ms - KEPT_MS},
        )
        return [PoolNow(**values) for values in found]

    async def connections(self) -> Connections:
        """Connections of the database server. Of other users' sessions an ordinary user sees no more than whose they
        are: what belongs to a database and a user is taken for a client's."""
        found = await self._fetch(
            "SELECT count(*) AS used, current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
            " - coalesce(current_setting('reserved_connections', true), '0')::int AS limit FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
            " OR (backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL)",
            {},
        )
        return Connections(**found[0])

    # -- positions ----------------------------------------------------------------------------------------------------

    async def position(self) -> dict[int, int]:
        """`seq` applied by partition."""
        found = await self._fetch("SELECT partition, seq FROM positions", {})
        return {values["partition"]: values["seq"] for values in found}

    async def positions(self) -> list[PositionRow]:
        """How far each partition is applied."""
        found = await self._fetch(f"SELECT {_POSITION} FROM positions ORDER BY partition", {})
        return [_position(values) for values in found]
