"""One instant of the read models: a read-only transaction in which every query sees it, and the position it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from jobledger.eventlog.positions import Vector

CONNECT_SECONDS = 10
_BEGIN: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
#: Asked first: the lock on `positions` keeps a switch to rebuilt tables out until the snapshot is left.
_POSITION: Final = "SELECT partition, seq FROM positions"
_COUNTED_SINCE: Final = (
    "SELECT partition, CASE WHEN counted_seq = seq THEN counted_since_ms ELSE last_event_at_ms END FROM positions"
)


@contextmanager
def snapshot_of(dsn: str, schema: str, application: str) -> Iterator[tuple[psycopg.Connection, Vector]]:
    """A connection of its own to the tables of a schema.

    Raises psycopg.Error: OperationalError when Postgres can't be reached, UndefinedTable when there are no read models.
    """
    with closing(psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS, application_name=application)) as connection:
        connection.execute(_BEGIN)
        connection.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))
        yield connection, dict(connection.execute(_POSITION).fetchall())


def counted_since_ms(connection: psycopg.Connection) -> dict[int, int]:
    """By partition: of the signals' spans that begin up to then, a release that does not count has applied events."""
    return dict(connection.execute(_COUNTED_SINCE).fetchall())


@asynccontextmanager
async def snapshot_over(connection: psycopg.AsyncConnection[Any]) -> AsyncIterator[Vector]:
    """A snapshot over a connection in autocommit mode that has its schema set; raises as `snapshot_of`."""
    async with connection.transaction():
        await connection.execute(_BEGIN)
        async with connection.cursor(row_factory=tuple_row) as cursor:
            vector: Vector = dict(await (await cursor.execute(_POSITION)).fetchall())
        yield vector
