"""The read models as a part of a process: a pool of connections, snapshots, and waiting for a position."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.abc import RV, PQGen
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from jobledger.eventlog.positions import Vector, reached
from jobledger.projections.api_requests import FORGET, SAVE, RequestSpan, kept, rows_of
from jobledger.projections.queries import Queries
from jobledger.projections.signal_queries import Params
from jobledger.projections.snapshot import snapshot_over
from jobledger.schemas.topics import Topic
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import StandingService

log = get_logger()

WAIT_FOR_CONNECTION_SECONDS = 2.0
MAX_WAITING_QUERIES = 500
STATEMENT_TIMEOUT = "7s"
#: For an answer of any kind: a Postgres that hangs, or a network that swallows, ends no statement by itself.
ANSWER_SECONDS = 8.0
#: A snapshot that is forgotten open would hold up a switch to rebuilt tables.
IDLE_IN_TRANSACTION_TIMEOUT = "30s"
SLOW_QUERY_SECONDS = 1.0
MAX_TOLD = 500
POLL_SECONDS = 0.012
MAX_LIFETIME_SECONDS = 3_600.0
#: What was seen longer ago is looked at again: a crash of Postgres can take the last commits back.
KNOWN_SECONDS = 1.0


class ReadModelUnavailableError(RuntimeError):
    """The read models can't be asked now; nothing is wrong with the question."""


class PoolUse(NamedTuple):
    """Connections of a pool that are in use and that are idle, and requests that wait for one."""

    used: int
    idle: int
    waiting: int


class Connection(psycopg.AsyncConnection[DictRow]):
    """One that Postgres can hold up for `ANSWER_SECONDS` at the most, and not at all once nobody wants the answer."""

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See psycopg; raises psycopg.OperationalError when no answer comes."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await super().wait(gen, interval, timeout)
        except TimeoutError:
            raise psycopg.OperationalError(f"it has not answered for {ANSWER_SECONDS:g} s") from None

    async def cancel_safe(self, *, timeout: float = 0.0) -> None:
        """Psycopg's step after a wait was cancelled. Asking the server to stop can take ten seconds: the connection
        is cut, and the pool makes another one."""
        with socket.socket(fileno=os.dup(self.pgconn.socket)) as same, contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)


class ReadModel(StandingService, Queries):
    """The queries, each over a connection of a pool.

    Every method raises ReadModelUnavailableError when Postgres can't be reached in 2 s, has no such schema, or
    takes over 8 s. `renewed` False: its connections are kept while they work, since there might be no other ones.
    """

    name = "read-model"

    def __init__(
        self, dsn: str, schema: str = "jobledger", *, min_size: int = 1, max_size: int = 8, renewed: bool = True
    ) -> None:
        self._schema = schema
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            connection_class=Connection,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "application_name": "jobledger-api",
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
            },
            min_size=min_size,
            max_size=max_size,
            max_waiting=MAX_WAITING_QUERIES,
            timeout=WAIT_FOR_CONNECTION_SECONDS,
            reconnect_timeout=5.0,
            max_lifetime=MAX_LIFETIME_SECONDS if renewed else math.inf,
            reconnect_failed=self._not_reached,
            configure=self._configure,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )
        self._vector: Vector = {}
        self._looked = 0.0
        self._waiters = 0
        self._moved = asyncio.Condition()
        self._poller: asyncio.Task[None] | None = None
        self._poll_failure: Exception | None = None
        self._connected = True

    async def start(self) -> None:
        """Open the pool; connections are made in the background, so Postgres may be away."""
        self._stand()
        await self._pool.open()

    async def stop(self) -> None:
        """Close the pool."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
            self._poller = None
        await self._pool.close()
        await super().stop()

    @property
    def pool_use(self) -> PoolUse:
        """How the connections are used now."""
        stats = self._pool.get_stats()
        size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        return PoolUse(used=size - idle, idle=idle, waiting=stats.get("requests_waiting", 0))

    async def ping(self) -> float:
        """For the health page: how many seconds `SELECT 1` takes, over a connection that stands."""
        async with self._connection() as connection:
            begun = time.monotonic()
            await connection.execute("SELECT 1")
            return time.monotonic() - begun

    async def topic_ids(self) -> dict[str, str]:
        """The broker's ids of the topics that projectors have read, by role; none while Postgres can't tell."""
        try:
            query: LiteralString = "SELECT topic_id FROM positions WHERE topic_id <> '' ORDER BY partition LIMIT 1"
            found = await self._fetch(query, {})
        except ReadModelUnavailableError:
            return {}
        return {Topic.EVENTS.value: found[0]["topic_id"]} if found else {}

    async def save_requests(self, spans: Iterable[RequestSpan]) -> None:
        """Note what an api has answered, whatever was noted of these spans before. It is no fold of events.

        Raises also psycopg.Error, when it may not write.
        """
        async with self._connection() as connection:
            await connection.execute(SAVE, [rows_of(spans)])

    async def forget_requests(self, now_ms: int) -> None:
        """Delete what is kept no longer; raises as `save_requests`."""
        async with self._connection() as connection:
            await connection.execute(FORGET, [kept(now_ms)])

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Queries that all see the same instant, and the position of that instant. Leave it soon: 30 s at most."""
        async with self._connection() as connection, snapshot_over(connection) as vector:
            yield Snapshot(connection, vector)

    async def wait_for(self, vector: Vector, timeout: float) -> bool:
        """Wait until the read models show everything up to `vector`; False when they don't within `timeout` s.

        However many wait in a process, one query every 12 ms looks, and only while somebody waits.
        """
        if time.monotonic() - self._looked > KNOWN_SECONDS:
            self._vector = {}
        if reached(self._vector, vector):
            return True
        self._waiters += 1
        self._poll_failure = None
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="wait-for-position")
        try:
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(lambda: reached(self._vector, vector) or self._poll_failure is not None)
        except TimeoutError:
            return False
        finally:
            self._waiters -= 1
        if not reached(self._vector, vector) and self._poll_failure is not None:
            raise ReadModelUnavailableError(str(self._poll_failure)) from self._poll_failure
        return True

    async def _poll(self) -> None:
        while self._waiters:
            failure: Exception | None = None
            try:
                seen = await self.position()
                self._looked = time.monotonic()
            except ReadModelUnavailableError as error:
                failure = error
            async with self._moved:
                if failure is not None:
                    self._poll_failure = failure
                    self._moved.notify_all()
                    return
                if seen != self._vector:
                    self._vector = seen
                    self._moved.notify_all()
            await asyncio.sleep(POLL_SECONDS)

    async def _configure(self, connection: Connection) -> None:
        path = sql.SQL("SET search_path = {}").format(sql.Identifier(self._schema))
        await connection.execute(path)
        await connection.execute(sql.SQL("SET statement_timeout = {}").format(STATEMENT_TIMEOUT))
        idle = sql.SQL("SET idle_in_transaction_session_timeout = {}").format(IDLE_IN_TRANSACTION_TIMEOUT)
        await connection.execute(idle)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as connection:
                self._reached()
                yield connection
        except (PoolTimeout, PoolClosed, TooManyRequests) as error:
            if isinstance(error, PoolTimeout):
                self._lost(str(error))
            raise ReadModelUnavailableError(f"Postgres gives no connection: {error}. Try again later.") from error
        except psycopg.errors.UndefinedTable as error:
            raise ReadModelUnavailableError(
                f"Schema '{self._schema}' holds no read models yet: start a projector, which makes them."
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not isinstance(error, psycopg.errors.QueryCanceled):
                self._lost(str(error))
            raise ReadModelUnavailableError(f"Postgres can't be asked: {error}. Try again later.") from error

    def _lost(self, error: str) -> None:
        """Told once, until there is a connection again."""
        if self._connected:
            self._connected = False
            log.error("db_connection_lost", error=error)

    def _reached(self) -> None:
        if not self._connected:
            self._connected = True
            log.info("db_connection_restored")

    def _not_reached(self, _pool: object) -> None:
        self._lost("no connection could be made for several seconds")

    async def _fetch(self, statement: LiteralString, params: Params) -> list[dict[str, Any]]:
        begun = time.monotonic()
        async with self._connection() as connection:
            rows = await (await connection.execute(statement, params)).fetchall()
        taken = time.monotonic() - begun
        if taken > SLOW_QUERY_SECONDS:
            log.warning("slow_query", query=_told(statement), duration_ms=round(taken * 1000))
        return rows


def _told(statement: str) -> str:
    """A statement without the middle of its columns: what it asks for stands at its end. Values are not in it."""
    return statement if len(statement) <= MAX_TOLD else f"{statement[:80]} … {statement[80 - MAX_TOLD :]}"


class Snapshot(Queries):
    """Queries over one connection, in one snapshot. `vector`: how far the log is applied in what they show."""

    def __init__(self, connection: Connection, vector: Vector) -> None:
        self._snapshot_connection = connection
        self.vector = vector

    async def _fetch(self, statement: LiteralString, params: Params) -> list[dict[str, Any]]:
        return await (await self._snapshot_connection.execute(statement, params)).fetchall()
