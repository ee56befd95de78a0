"""What a batch of events changes in the read models, gathered in memory before anything is written."""

from __future__ import annotations

from typing import Any

from jobledger.projections.columns import Change, Key, Table
from jobledger.projections.signals import SignalChanges
from jobledger.projections.tables import ATTEMPTS, JOBS, QUEUES, WORKERS

#: A row of `events` in the order of its columns.
EventValues = tuple[int, int, str, int, str, int, str, str, bytes]


class TableChanges:
    """Changes of the rows of one table, at most one a row; `made` holds the keys of rows that are new."""

    __slots__ = ("made", "rows", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: dict[Key, Change] = {}
        self.made: set[Key] = set()

    def make(self, key: Key, row: Change) -> None:
        """A new row."""
        self.rows[key] = row
        self.made.add(key)

    def change(self, key: Key) -> Change:
        """The change of a row, to be added to."""
        change = self.rows.get(key)
        if change is None:
            change = self.rows[key] = {}
        return change


class Changes:
    """All that a batch changes. Events of one partition have to come in order, from where the tables are."""

    def __init__(self) -> None:
        self.events: list[EventValues] = []
        self.set_aside: dict[Key, Change] = {}
        self.jobs = TableChanges(JOBS)
        self.attempts = TableChanges(ATTEMPTS)
        self.queues = TableChanges(QUEUES)
        self.workers = TableChanges(WORKERS)
        self.workers_removed: set[Key] = set()
        #: See lost_workers.py.
        self.workers_lost: dict[Key, Change] = {}
        self.waiting: dict[Key, Change] = {}
        #: Tasks handed out or withdrawn whose rows stand in the table, with nothing but their keys known here.
        self.taken: set[Key] = set()
        self.signals = SignalChanges()

    @property
    def tables(self) -> tuple[TableChanges, ...]:
        """The tables that are changed row by row."""
        return self.jobs, self.attempts, self.queues, self.workers

    def enqueue(self, key: Key, row: Change) -> None:
        """A task waits from now on."""
        self.waiting[key] = row
        queue = self.queues.change(key[:2])
        add(queue, "enqueued", 1)
        add(queue, "waiting", 1)
        add(queue, "waiting_bytes", row["bytes"])

    def take(self, key: Key) -> None:
        """A task waits no longer. What the table knows of it is taken off the bytes when the batch is written."""
        queue = self.queues.change(key[:2])
        add(queue, "waiting", -1)
        row = self.waiting.pop(key, None)
        if row is None:
            self.taken.add(key)
        else:
            add(queue, "waiting_bytes", -row["bytes"])


def add(change: Change, counter: str, amount: int) -> None:
    """Count in a change."""
    change[counter] = change.get(counter, 0) + amount


def set_opaque(change: Change, column: str, value: Any) -> None:
    """Set the two columns of a user's text: its data and the encoding it names."""
    change[column] = None if value is None else value.data
    change[column + "_encoding"] = None if value is None else value.encoding
