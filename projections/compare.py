"""Row-for-row comparison of the read models: two schemas, or a schema and a fold in memory, at one position vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import psycopg
from psycopg import sql

from jobledger.eventlog.positions import Vector
from jobledger.projections.columns import Key, Table
from jobledger.projections.memory import MemoryTables
from jobledger.projections.snapshot import counted_since_ms, snapshot_of
from jobledger.projections.tables import JOB_SIGNALS, TABLES

KeyedRow = tuple[Key, dict[str, Any]]
ROWS_PER_FETCH = 2_000
MAX_DIFFERENCES = 100


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A row that is not the same on both sides. None: it is missing there. Columns that agree are left out."""

    table: str
    key: Key
    expected: dict[str, Any] | None
    found: dict[str, Any] | None

    def __str__(self) -> str:
        name = "/".join(map(str, self.key))
        if self.expected is None:
            return f"{self.table} {name}: should not be there"
        if self.found is None:
            return f"{self.table} {name}: is missing"
        columns = ", ".join(f"{c} is {self.found[c]!r:.80} instead of {self.expected[c]!r:.80}" for c in self.found)
        return f"{self.table} {name}: {columns}"


class RowSource(Protocol):
    """Tables that can be compared."""

    @property
    def counted_since_ms(self) -> Mapping[int, int]:
        """By partition: spans of signals that begin up to then are not whole, and are not compared."""
        ...

    def rows(self, table: Table) -> Iterator[KeyedRow]:
        """All rows by key, in the order of the key."""


@dataclass
class SchemaSnapshot:
    """A schema as it is at one instant; `vector` says how far the log is applied in it."""

    connection: psycopg.Connection = field(repr=False)
    vector: Vector

    @cached_property
    def counted_since_ms(self) -> dict[int, int]:
        """By partition: of spans that begin up to then, not all events were counted; 0: all are."""
        return counted_since_ms(self.connection)

    def rows(self, table: Table) -> Iterator[KeyedRow]:
        """All rows by key, in the order of the key."""
        statement = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
            sql.SQL(", ").join(map(sql.Identifier, table.columns)),
            sql.Identifier(table.name),
            sql.SQL(", ").join(map(sql.Identifier, table.key)),
        )
        width = len(table.key)
        with self.connection.cursor(name=f"compare_{table.name}") as cursor:
            cursor.itersize = ROWS_PER_FETCH
            for row in cursor.execute(statement):
                yield row[:width], dict(zip(table.columns, row, strict=True))

    def digest(self, table: Table) -> tuple[int, int]:
        """Number of rows and a sum over hashes of them: equal tables have equal digests, whatever their order."""
        statement = sql.SQL(
            "SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0) FROM {}"
        ).format(sql.SQL(", ").join(map(sql.Identifier, table.columns)), sql.Identifier(table.name))
        count, total = self.connection.execute(statement).fetchall()[0]
        return int(count), int(total)


@contextmanager
def schema_snapshot(dsn: str, schema: str) -> Iterator[SchemaSnapshot]:
    """One repeatable-read snapshot of a schema; raises psycopg.Error, UndefinedTable when it isn't there."""
    with snapshot_of(dsn, schema, "jobledger-compare") as (connection, vector):
        yield SchemaSnapshot(connection, vector)


class MemoryRows:
    """A fold in memory as a source of rows."""

    counted_since_ms: Mapping[int, int] = {}

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    def rows(self, table: Table) -> Iterator[KeyedRow]:
        """All rows by key, in the order of the key."""
        return iter(sorted(self._tables.rows[table.name].items(), key=lambda item: item[0]))


def differences(expected: RowSource, found: RowSource, tables: tuple[Table, ...] = TABLES) -> Iterator[Difference]:
    """What differs, table by table in the order of the keys. Both have to be at one position vector."""
    for table in tables:
        sides = (_whole(table, side.rows(table), expected, found) for side in (expected, found))
        yield from _merge(table, *sides)


def _whole(table: Table, rows: Iterator[KeyedRow], *sources: RowSource) -> Iterator[KeyedRow]:
    """The rows without spans in which one side did not count all events."""
    if table is not JOB_SIGNALS:
        return rows
    since = [source.counted_since_ms for source in sources]
    return (row for row in rows if all(row[0][2] > one.get(row[0][0], 0) for one in since))


def first_differences(expected: RowSource, found: RowSource, most: int = MAX_DIFFERENCES) -> list[Difference]:
    """The first differences."""
    return list(islice(differences(expected, found), most))


def compare_snapshots(
    expected: SchemaSnapshot, found: SchemaSnapshot, most: int = MAX_DIFFERENCES, tables: tuple[Table, ...] = TABLES
) -> list[Difference]:
    """What differs between two schemas at one vector; tables with equal digests are not looked at row by row.

    Raises ValueError when the vectors differ.
    """
    if _trimmed(expected.vector) != _trimmed(found.vector):
        raise ValueError(f"The schemas are at different positions: {expected.vector} and {found.vector}.")
    unequal = tuple(table for table in tables if expected.digest(table) != found.digest(table))
    return list(islice(differences(expected, found, unequal), most))


def _trimmed(vector: Vector) -> Vector:
    return {partition: seq for partition, seq in vector.items() if seq}


def _merge(table: Table, expected: Iterator[KeyedRow], found: Iterator[KeyedRow]) -> Iterator[Difference]:
    left, right = next(expected, None), next(found, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield Difference(table=table.name, key=left[0], expected=left[1], found=None)
            left = next(expected, None)
        elif left is None or right[0] < left[0]:
            yield Difference(table=table.name, key=right[0], expected=None, found=right[1])
            right = next(found, None)
        else:
            if left[1] != right[1]:
                yield _changed(table, left, right)
            left, right = next(expected, None), next(found, None)


def _changed(table: Table, left: KeyedRow, right: KeyedRow) -> Difference:
    columns = [column for column in table.columns if left[1][column] != right[1][column]]
    return Difference(
        table=table.name,
        key=left[0],
        expected={column: left[1][column] for column in columns},
        found={column: right[1][column] for column in columns},
    )
