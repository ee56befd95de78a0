"""Writes a batch of changes and the new positions in one transaction."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from jobledger.domain.identity import job_stream
from jobledger.projections.changes import Changes, EventValues, TableChanges
from jobledger.projections.columns import Key, Table
from jobledger.projections.lost_workers import note_lost
from jobledger.projections.second_lives import Standing, standing
from jobledger.projections.signals import JobFacts, oldest_kept
from jobledger.projections.statements import bits, copy_sql, count_sql, delete_sql, insert_missing_sql, update_sql
from jobledger.projections.tables import ATTEMPTS, EVENTS, JOB_SIGNALS, JOBS, SET_ASIDE, TABLES, WAITING_TASKS, WORKERS

CONNECT_SECONDS = 5
_encode = msgspec.json.Encoder().encode


class DeposedError(Exception):
    """The positions are not where this writer left them: another one has written. Nothing of the batch was."""


class FoldError(RuntimeError):
    """A row that an event changes doesn't exist: the tables are not a fold of the log. Rebuild them."""


class SecondLifeError(FoldError):
    """An event comes for a job whose row has ended, or is there already: its stream may have begun a second time.

    Nothing of the batch was written; fold it again by where the rows stand.
    """


@dataclass(frozen=True, slots=True)
class Advance:
    """How a batch moves the position of one partition."""

    partition: int
    expected: int
    seq: int
    next_offset: int
    last_event_at_ms: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands in the tables."""

    seq: int
    next_offset: int
    last_event_at_ms: int


_MAKE_POSITIONS = (
    "INSERT INTO positions (partition) SELECT unnest(%s::integer[]) ORDER BY 1 ON CONFLICT (partition) DO NOTHING"
)
_READ_POSITIONS = (
    "SELECT partition, seq, next_offset, last_event_at_ms FROM positions WHERE partition = ANY(%s::integer[])"
)
# The guard. It has to be the first statement: a rebuild that switches waits on this table's lock.
_ADVANCE = (
    "UPDATE positions p SET seq = s.seq, next_offset = s.next_offset, last_event_at_ms = s.last_event_at_ms,"
    " counted_since_ms = CASE WHEN p.counted_seq = p.seq THEN p.counted_since_ms ELSE p.last_event_at_ms END,"
    " counted_seq = s.seq, updated_at_ms = %s"
    " FROM json_to_recordset(%s::json) AS s(partition integer, expected bigint, seq bigint,"
    " next_offset bigint, last_event_at_ms bigint) WHERE p.partition = s.partition AND p.seq = s.expected"
)
_TAKE = (
    f"WITH taken AS ({delete_sql(WAITING_TASKS)} RETURNING t.tenant, t.queue, t.bytes)"
    " SELECT tenant, queue, count(*), sum(bytes)::bigint FROM taken GROUP BY tenant, queue"
)
_UPDATE = {table.name: update_sql(table) for table in TABLES if table.changing}
_STANDINGS = (
    "SELECT t.tenant, t.id, t.version, t.status FROM jobs t"
    " JOIN json_to_recordset(%s::json) AS s(tenant text, id text) ON t.tenant = s.tenant AND t.id = s.id"
)
_JOB_FACTS = (
    "SELECT t.tenant, t.id, t.due_at_ms, t.expected_duration_seconds, t.run FROM jobs t"
    " JOIN json_to_recordset(%s::json) AS s(tenant text, id text) ON t.tenant = s.tenant AND t.id = s.id"
)
_COUNT_SIGNALS = count_sql(JOB_SIGNALS)
_CUT_SIGNALS = (
    "DELETE FROM job_signals t USING json_to_recordset(%s::json)"
    " AS s(partition integer, span_seconds integer, oldest_ms bigint)"
    " WHERE t.partition = s.partition AND t.span_seconds = s.span_seconds AND t.start_ms < s.oldest_ms"
)
_COUNT_ASIDE = "SELECT partition, count(*) FROM set_aside WHERE partition = ANY(%s::integer[]) GROUP BY partition"
_COPY = {table.name: copy_sql(table) for table in TABLES}
_BITS = {table.name: bits(table) for table in TABLES}
_DELETE_WORKERS = delete_sql(WORKERS)
_INSERT_WORKERS = insert_missing_sql(WORKERS)


def connect(dsn: str, schema: str) -> psycopg.Connection:
    """A connection whose tables are those of `schema`.

    Its commits don't wait for the disk: what a crash of Postgres loses, position and rows together, is
    applied again from the log.
    """
    connection = psycopg.connect(
        dsn,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        application_name="jobledger-projector",
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
    )
    connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
    connection.execute("SET synchronous_commit = off")
    # A plan made while the tables are small is kept: it has to go by the primary keys from the start.
    connection.execute("SET enable_seqscan = off")
    connection.execute("SET enable_hashjoin = off")
    connection.execute("SET enable_mergejoin = off")
    connection.prepare_threshold = 2
    return connection


#: A position that does not know its topic yet counts in the one that is there.
_TAKE_TOPIC = (
    "UPDATE positions SET topic_id = %s WHERE partition = ANY(%s::integer[]) AND topic_id <> %s"
    " AND (topic_id = '' OR %s)"
)
_OTHER_TOPICS = (
    "SELECT min(topic_id) FROM positions WHERE partition = ANY(%s::integer[]) AND topic_id <> %s AND topic_id <> ''"
)


class Writer:
    """Writes batches over one connection."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def positions(self, partitions: Iterable[int]) -> dict[int, Position]:
        """Where partitions stand; one that was never read stands at 0."""
        wanted = list(partitions)
        with self._connection.transaction():
            self._run(_MAKE_POSITIONS, [wanted])
            found = self._run(_READ_POSITIONS, [wanted]).fetchall()
        return {partition: Position(*rest) for partition, *rest in found}

    def set_aside(self, partitions: Iterable[int]) -> dict[int, int]:
        """How many events of each partition are set aside."""
        wanted = list(partitions)
        return dict.fromkeys(wanted, 0) | dict(self._run(_COUNT_ASIDE, [wanted]).fetchall())

    def standings(self, keys: Iterable[Key]) -> dict[str, Standing]:
        """Where the rows of jobs stand, by stream; those that there are."""
        found = self._run(_STANDINGS, [_keys(JOBS, keys)]).fetchall()
        return {job_stream(tenant, name): standing(version, status) for tenant, name, version, status in found}

    def take_topic(self, partitions: Iterable[int], topic_id: str, *, accept: bool = False) -> str | None:
        """Note which topic the positions count in; the id of the one they do count in, if it is another."""
        wanted = list(partitions)
        with self._connection.transaction():
            self._run(_TAKE_TOPIC, [topic_id, wanted, topic_id, accept])
            row = self._run(_OTHER_TOPICS, [wanted, topic_id]).fetchone()
        return str(row[0]) if row and row[0] else None

    def write(self, changes: Changes, advances: list[Advance]) -> None:
        """Write a batch and its positions, or nothing.

        Raises DeposedError, FoldError (SecondLifeError when jobs of it had ended before), or psycopg.Error, after
        which it may have been written or not when the connection was lost: read the positions.
        """
        try:
            self._write(changes, advances)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.table_name not in (JOBS.name, ATTEMPTS.name):
                raise
            raise SecondLifeError(str(error.diag.message_detail or error)) from error

    def _write(self, changes: Changes, advances: list[Advance]) -> None:
        now = time.time_ns() // 1_000_000
        with self._connection.transaction():
            if self._run(_ADVANCE, [now, _encode(advances).decode()]).rowcount != len(advances):
                raise DeposedError
            self._copy(EVENTS, b"".join(map(_event_line, changes.events)))
            if changes.set_aside:
                self._copy(SET_ASIDE, _lines(SET_ASIDE, changes.set_aside.items()))
            self._write_waiting(changes)
            if changes.workers_lost:
                note_lost(self._connection, changes.workers_lost, now)
            if changes.workers_removed:
                self._run(_DELETE_WORKERS, [_keys(WORKERS, changes.workers_removed)])
            self._write_signals(changes)
            for part in changes.tables:
                self._write_table(part)

    def _write_signals(self, changes: Changes) -> None:
        """Before the rows of jobs, which say how things stood when the batch began."""
        changes.signals.settle(self._job_facts)
        spans = changes.signals.spans()
        if not spans:
            return
        rows = [{**counts, **dict(zip(JOB_SIGNALS.key, key, strict=True))} for key, counts in spans.items()]
        self._run(_COUNT_SIGNALS, [_encode(rows).decode()])
        kept = [
            {"partition": partition, "span_seconds": seconds, "oldest_ms": oldest_ms}
            for (partition, seconds), oldest_ms in oldest_kept(spans).items()
        ]
        self._run(_CUT_SIGNALS, [_encode(kept).decode()])

    def _job_facts(self, keys: Iterable[Key]) -> dict[Key, JobFacts]:
        found = self._run(_JOB_FACTS, [_keys(JOBS, keys)]).fetchall()
        return {(tenant, name): JobFacts(*facts) for tenant, name, *facts in found}

    def _write_waiting(self, changes: Changes) -> None:
        if changes.taken:
            taken = self._run(_TAKE, [_keys(WAITING_TASKS, changes.taken)]).fetchall()
            if sum(count for _, _, count, _ in taken) != len(changes.taken):
                raise FoldError(f"A task handed out is not among those that wait in {sorted(_queues(changes))}.")
            for tenant, queue, _, size in taken:
                change = changes.queues.change((tenant, queue))
                change["waiting_bytes"] = change.get("waiting_bytes", 0) - size
        if changes.waiting:
            self._copy(WAITING_TASKS, _lines(WAITING_TASKS, changes.waiting.items()))

    def _write_table(self, part: TableChanges) -> None:
        table = part.table
        if table is WORKERS:
            self._write_workers(part)
            return
        if part.made:
            self._copy(table, _lines(table, ((key, part.rows[key]) for key in part.made)))
        changed = [key for key in part.rows if key not in part.made]
        if changed and self._update(part, changed) != len(changed):
            error = SecondLifeError if table is JOBS else FoldError
            raise error(f"A row of '{table.name}' that an event changes does not exist, among {changed[:3]} ….")

    def _write_workers(self, part: TableChanges) -> None:
        """A registration may be the first of its incarnation or a change; the table knows."""
        if not part.rows:
            return
        self._update(part, list(part.rows))
        if part.made:
            rows = [dict(zip(WORKERS.columns, WORKERS.new_row(k, part.rows[k]), strict=True)) for k in part.made]
            self._run(_INSERT_WORKERS, [_encode(rows).decode()])

    def _update(self, part: TableChanges, keys: list[Key]) -> int:
        table = part.table
        places = _BITS[table.name]
        rows = []
        for key in keys:
            change = part.rows[key]
            mask = 0
            for column in change:
                mask |= places.get(column, 0)
            rows.append({**change, **dict(zip(table.key, key, strict=True)), "mask": mask})
        return self._run(_UPDATE[table.name], [_encode(rows).decode()]).rowcount

    def _copy(self, table: Table, lines: bytes) -> None:
        with (
            self._connection.cursor() as cursor,
            cursor.copy(_COPY[table.name]) as copy,
        ):
            copy.write(lines)

    def _run(self, statement: str, parameters: list[Any]) -> psycopg.Cursor[Any]:
        return self._connection.execute(statement, parameters)


def _queues(changes: Changes) -> set[str]:
    return {f"{key[0]}/{key[1]}" for key in changes.taken}


def _keys(table: Table, keys: Iterable[Key]) -> str:
    return _encode([dict(zip(table.key, key, strict=True)) for key in keys]).decode()


# -- text of COPY -----------------------------------------------------------------------------------------------------

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text) if _SPECIAL.search(text) else text


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, dict | list):
        return _escape(_encode(value).decode())
    return str(value)


def _lines(table: Table, rows: Iterable[tuple[Key, dict[str, Any]]]) -> bytes:
    return "".join("\t".join(map(_field, table.new_row(key, change))) + "\n" for key, change in rows).encode()


def _event_line(values: EventValues) -> bytes:
    partition, seq, stream, version, type_name, at_ms, command_id, actor_kind, raw = values
    data = raw.replace(b"\\", b"\\\\")
    if b"\n" in data or b"\t" in data or b"\r" in data:
        data = data.replace(b"\n", b"\\n").replace(b"\t", b"\\t").replace(b"\r", b"\\r")
    named = f"{_escape(stream)}\t{version}\t{type_name}\t{at_ms}\t{_escape(command_id)}\t{actor_kind}"
    return b"%d\t%d\t%b\t%b\n" % (partition, seq, named.encode(), data)
