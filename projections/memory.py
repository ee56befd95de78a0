"""The read models in memory: the same fold as in Postgres, applied to dicts. The judge of the rows in Postgres."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from jobledger.domain.identity import split_stream
from jobledger.projections.changes import Changes, TableChanges
from jobledger.projections.columns import Change, Key, Table
from jobledger.projections.event_reader import EventReader
from jobledger.projections.fold import fold, set_aside
from jobledger.projections.second_lives import SecondLives, Standing, standing
from jobledger.projections.signals import JobFacts, oldest_kept
from jobledger.projections.tables import EVENTS, JOB_SIGNALS, SET_ASIDE, TABLES, WAITING_TASKS
from jobledger.schemas.events import EventRecord

#: Rows of one table by key; each row by column.
Rows = dict[Key, dict[str, Any]]
_encode = msgspec.json.Encoder().encode


class MemoryTables:
    """Rows of all tables after the events folded so far.

    Fold the events of each partition in the order of `seq`; partitions may be mixed in any way.
    """

    def __init__(self, *, keep_events: bool = True) -> None:
        self.rows: dict[str, Rows] = {table.name: {} for table in TABLES}
        self.vector: dict[int, int] = {}
        self._keep_events = keep_events
        self._reader = EventReader()

    def fold(self, partition: int, records: Iterable[tuple[EventRecord, bytes]]) -> None:
        """Fold events of a partition, each with its record's value as read from Kafka."""
        changes, lives = Changes(), SecondLives(self._standing)
        for record, raw in records:
            fault = lives.fault(record)
            if fault is None:
                fold(changes, record, partition, raw)
            else:
                set_aside(changes, record, partition, raw, fault)
            self.vector[partition] = record.seq
        self.apply(changes)

    def fold_records(self, partition: int, records: Iterable[EventRecord]) -> None:
        """Fold events whose record's value is not at hand: it is what this release would write."""
        self.fold_values(partition, (_encode(record) for record in records))

    def fold_values(self, partition: int, values: Iterable[bytes]) -> None:
        """Fold the values of records on `events`, of this release's versions."""
        self.fold(partition, ((self._reader.read(value, list), value) for value in values))

    def apply(self, changes: Changes) -> None:
        """Do to the dicts what the writer does to the tables."""
        if self._keep_events:
            for values in changes.events:
                row = dict(zip(EVENTS.columns, (*values[:-1], values[-1].decode()), strict=True))
                self.rows["events"][values[:2]] = row
        for key, change in changes.set_aside.items():
            self.rows["set_aside"][key] = _new(SET_ASIDE, key, change)
        self._count(changes)
        self._take(changes)
        waiting = self.rows["waiting_tasks"]
        for key, change in changes.waiting.items():
            waiting[key] = _new(WAITING_TASKS, key, change)
        for key in changes.workers_removed:
            self.rows["workers"].pop(key, None)
        for part in changes.tables:
            _apply(part, self.rows[part.table.name])

    def _standing(self, stream: str) -> Standing | None:
        row = self.rows["jobs"].get(split_stream(stream)[1:])
        return None if row is None else standing(row["version"], row["status"])

    def _count(self, changes: Changes) -> None:
        jobs, rows = self.rows["jobs"], self.rows["job_signals"]
        changes.signals.settle(
            lambda keys: {key: JobFacts(*(jobs[key][name] for name in JobFacts._fields)) for key in keys if key in jobs}
        )
        part = TableChanges(JOB_SIGNALS)
        part.rows = changes.signals.spans()
        _apply(part, rows)
        kept = oldest_kept(part.rows)
        for key in [key for key in rows if key[2] < kept.get(key[:2], 0)]:
            del rows[key]

    def _take(self, changes: Changes) -> None:
        for key in changes.taken:
            row = self.rows["waiting_tasks"].pop(key)
            queue = changes.queues.change(key[:2])
            queue["waiting_bytes"] = queue.get("waiting_bytes", 0) - row["bytes"]


def _new(table: Table, key: Key, change: Change) -> dict[str, Any]:
    return dict(zip(table.columns, table.new_row(key, change), strict=True))


def _apply(part: TableChanges, rows: Rows) -> None:
    table = part.table
    for key, change in part.rows.items():
        row = rows.get(key)
        if row is None:
            rows[key] = _new(table, key, change)
            continue
        for column, value in change.items():
            if column in table.counters:
                row[column] += value
            elif column not in table.fixed:
                row[column] = value
