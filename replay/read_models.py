"""The rows of the read models of a partition beside the fold of its events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import psycopg

from jobledger.domain.identity import partition_of, split_stream
from jobledger.projections.columns import Key, Table
from jobledger.projections.fold import attempt_key, event_values
from jobledger.projections.memory import MemoryTables
from jobledger.projections.second_lives import ends_job
from jobledger.projections.snapshot import counted_since_ms, snapshot_of
from jobledger.projections.tables import ATTEMPTS, CURRENT, EVENTS, JOB_SIGNALS, JOBS
from jobledger.replay.report import Report, VerifyError
from jobledger.schemas.events import EventRecord

#: Events folded, and rows looked up, at a time.
CHUNK = 2_000
Row = dict[str, Any]


class ReadModels:
    """One snapshot of the read models: everything read through it shows one position vector."""

    def __init__(self, dsn: str, schema: str) -> None:
        """Raises VerifyError when Postgres can't be reached or the schema isn't there."""
        self._stack = ExitStack()
        try:
            self._connection, self.vector = self._stack.enter_context(snapshot_of(dsn, schema, "jobledger-verify"))
        except psycopg.errors.UndefinedTable as error:
            raise VerifyError(f"Schema '{schema}' holds no read models: start a projector first.") from error
        except psycopg.Error as error:
            raise VerifyError(f"Postgres can't be read: {str(error).strip()}. Check JOBLEDGER_POSTGRES_DSN.") from error

    def close(self) -> None:
        """End the snapshot."""
        self._stack.close()

    def lookup(self, table: Table, keys: list[Key]) -> dict[Key, Row]:
        """Rows by their whole keys."""
        given = ", ".join(f"{column} {kind}" for column, kind in table.key.items())
        on = " AND ".join(f"t.{column} = s.{column}" for column in table.key)
        names = ", ".join(f"t.{column}" for column in table.columns)
        query = f"SELECT {names} FROM {table.name} t JOIN json_to_recordset(%s::json) AS s({given}) ON {on}"
        wanted = [dict(zip(table.key, key, strict=True)) for key in keys]
        found: dict[Key, Row] = {}
        for values in self._connection.execute(query.encode(), [msgspec.json.encode(wanted).decode()]):
            found[values[: len(table.key)]] = dict(zip(table.columns, values, strict=True))
        return found

    def events(self, partition: int) -> Iterator[tuple[Any, ...]]:
        """The rows of `events` of a partition by seq, a chunk at a time."""
        names = ", ".join(EVENTS.columns)
        query = f"SELECT {names} FROM events WHERE partition = %s AND seq > %s ORDER BY seq LIMIT {CHUNK}"
        seq = 0
        while True:
            rows = self._connection.execute(query.encode(), [partition, seq]).fetchall()
            yield from rows
            if len(rows) < CHUNK:
                return
            seq = rows[-1][1]

    def set_aside(self, partition: int) -> frozenset[int]:
        """`seq` of the partition's events that change no row, since the stream of an ended job began again."""
        query = "SELECT seq FROM set_aside WHERE partition = %s"
        return frozenset(seq for (seq,) in self._connection.execute(query, [partition]))

    def signals(self, partition: int) -> tuple[int, dict[Key, Row]]:
        """The partition's spans of signals; of those that begin up to the first number not all events were counted."""
        query = f"SELECT {', '.join(JOB_SIGNALS.columns)} FROM job_signals WHERE partition = %s"
        found = self._connection.execute(query.encode(), [partition])
        rows = {row[:3]: dict(zip(JOB_SIGNALS.columns, row, strict=True)) for row in found}
        return counted_since_ms(self._connection).get(partition, 0), rows

    def keys(self, table: Table) -> Iterator[Key]:
        """The keys of a table's rows."""
        query = f"SELECT {', '.join(table.key)} FROM {table.name}"
        with self._connection.cursor(f"verify_{table.name}") as cursor:
            cursor.itersize = CHUNK
            yield from cursor.execute(query.encode())


class ReadModelFold:
    """Folds the events of one partition into rows and holds them against those in Postgres.

    The rows of a job that has ended are looked up, compared and forgotten, a chunk at a time.
    """

    def __init__(self, partition: int, models: ReadModels, report: Report) -> None:
        self._partition = partition
        self._models = models
        self._report = report
        self._where = f"partition {partition}, read model"
        self._tables = MemoryTables(keep_events=False)
        self._chunk: list[tuple[EventRecord, bytes]] = []
        self._attempts: dict[Key, list[Key]] = {}
        self._rows = models.events(partition)
        self._row = next(self._rows, None)
        self._aside = models.set_aside(partition)
        #: Rows that are expected in the end, by table.
        self.counts = dict.fromkeys((table.name for table in CURRENT), 0)

    def fold(self, record: EventRecord, raw: bytes) -> None:
        """Take in the next event."""
        self._compare_event(record, raw)
        if record.seq not in self._aside:
            self._chunk.append((record, raw))
        if len(self._chunk) >= CHUNK:
            self._fold_chunk()

    def _compare_event(self, record: EventRecord, raw: bytes) -> None:
        self._report.rows += 1
        *head, value = event_values(record, self._partition, raw)
        expected = (*head, value.decode(errors="replace"))
        where = f"{self._where}, events"
        while self._row is not None and self._row[1] < record.seq:
            self._report.add(where, f"seq {self._row[1]}", None, self._row)
            self._row = next(self._rows, None)
        if self._row is None or self._row[1] > record.seq:
            self._report.add(where, f"seq {record.seq}", expected, None)
            return
        self._report.compare(where, f"seq {record.seq}", expected, self._row)
        self._row = next(self._rows, None)

    def _fold_chunk(self) -> None:
        chunk, self._chunk = self._chunk, []
        ended: list[Key] = []
        for record, _ in chunk:
            key = split_stream(record.originator_id)[1:]
            if (attempt := attempt_key(record)) is not None:
                self._attempts.setdefault(key, []).append(attempt)
            elif ends_job(record):
                ended.append(key)
        try:
            self._tables.fold(self._partition, chunk)
        except KeyError as error:
            first, last = chunk[0][0].seq, chunk[-1][0].seq
            self._report.add(self._where, f"seq {first} to {last}", "rows for its events", f"no row {error}")
            return
        self._compare(JOBS, ended)
        self._compare(ATTEMPTS, [a for key in ended for a in self._attempts.pop(key, [])])

    def _compare(self, table: Table, keys: list[Key]) -> None:
        """Compare rows with those in Postgres, and forget them."""
        rows = self._tables.rows[table.name]
        for start in range(0, len(keys), CHUNK):
            part = [key for key in keys[start : start + CHUNK] if key in rows]
            found = self._models.lookup(table, part)
            for key in part:
                self._compare_row(table, key, rows.pop(key), found.get(key))

    def _compare_row(self, table: Table, key: Key, expected: Row, found: Row | None) -> None:
        self._report.rows += 1
        self.counts[table.name] += 1
        where = f"{self._where}, {table.name}"
        if found is None:
            self._report.add(where, key, expected, None)
            return
        for column, value in expected.items():
            self._report.compare(where, f"{key}.{column}", value, found[column])

    def finish(self) -> None:
        """All events up to the read model's position are folded: compare what is left."""
        if self._chunk:
            self._fold_chunk()
        if self._row is not None:
            self._report.add(f"{self._where}, events", f"seq {self._row[1]} and on", None, self._row)
        for table in CURRENT:
            self._compare(table, list(self._tables.rows[table.name]))
        self._compare_signals()

    def _compare_signals(self) -> None:
        since_ms, found = self._models.signals(self._partition)
        expected = self._tables.rows[JOB_SIGNALS.name]
        where = f"{self._where}, {JOB_SIGNALS.name}"
        for key in sorted({*expected, *found}):
            if key[2] > since_ms:
                self._report.rows += 1
                self._report.compare(where, key, expected.get(key), found.get(key))


def compare_counts(models: ReadModels, partitions: int, expected: dict[str, dict[int, int]], report: Report) -> None:
    """Whether there are rows that no event explains: `expected` holds the number of rows by table and partition."""
    for table in CURRENT:
        found = dict.fromkeys(range(partitions), 0)
        for tenant, name, *_ in models.keys(table):
            found[partition_of(f"{table.of}:{tenant}:{name}", partitions)] += 1
        for partition, count in found.items():
            where = f"partition {partition}, read model, {table.name}"
            report.compare(where, "number of rows", expected[table.name].get(partition, 0), count)
