"""The tables of the read models by column, and the statements that write them.

A change of a row (`Change`) is a dict from column to value. Columns in `counters` of a changed row hold what is
added; all others what is set. A column that is not in the dict stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobledger.projections.lives import FINAL_STATUSES

Key = tuple[Any, ...]
Change = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: key columns, the other columns with their Postgres types, and what each kind of column means.

    `fixed`: set when the row is made and never again. `counters`: a change holds what is added.
    """

    name: str
    key: dict[str, str]
    fixed: dict[str, str] = field(default_factory=dict)
    changing: dict[str, str] = field(default_factory=dict)
    counters: tuple[str, ...] = ()
    #: What a column is in a new row when the change doesn't name it (other columns: NULL).
    defaults: dict[str, Any] = field(default_factory=dict)
    #: Rows in one of these statuses are not changed any more.
    final: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """All columns, in the order of COPY."""
        return [*self.key, *self.fixed, *self.changing, *self.counters]

    @property
    def types(self) -> dict[str, str]:
        """Column to type."""
        return {**self.key, **self.fixed, **self.changing, **dict.fromkeys(self.counters, "bigint")}

    def new_row(self, key: Key, change: Change) -> list[Any]:
        """Values of a new row in the order of `columns`."""
        whole = {**self.defaults, **dict.fromkeys(self.counters, 0), **change}
        return [*key, *(whole.get(column) for column in self.columns[len(self.key) :])]


_OPAQUE = "text"
JOBS = Table(
    name="jobs",
    key={"tenant": "text", "id": "text"},
    fixed={
        "handler": "text",
        "queue": "text",
        "priority": "smallint",
        "retry": "text",
        "timeout_seconds": "double precision",
        "submitted_at_ms": "bigint",
        "due_at_ms": "bigint",
        "payload": _OPAQUE,
        "payload_encoding": "text",
        "tags": "jsonb",
        "parent": "text",
        "root": "text",
        "retry_of": "text",
        "schedule": "text",
        "fire_at_ms": "bigint",
        "workflow": "text",
        "workflow_version": "integer",
        "key_digest": "text",
        "request_digest": "text",
        "command_id": "text",
        "actor_kind": "text",
        "actor_id": "text",
        "correlation_id": "text",
        "traceparent": "text",
        "partition": "integer",
    },
    changing={
        "status": "text",
        "attempt": "integer",
        "assignment": "integer",
        "ready_at_ms": "bigint",
        "started_at_ms": "bigint",
        "ended_at_ms": "bigint",
        "retry_at_ms": "bigint",
        "cancel_requested_at_ms": "bigint",
        "worker": "text",
        "result": _OPAQUE,
        "result_encoding": "text",
        "error_type": "text",
        "error": _OPAQUE,
        "error_encoding": "text",
        "cancel_reason": _OPAQUE,
        "cancel_reason_encoding": "text",
        "checkpoint": _OPAQUE,
        "checkpoint_encoding": "text",
        "checkpoint_at_ms": "bigint",
        "dead_letter_cause": "text",
        "run": "integer",
        "version": "bigint",
        "seq": "bigint",
        "updated_at_ms": "bigint",
    },
    defaults={"attempt": 0, "assignment": 0, "run": 1},
    final=FINAL_STATUSES,
)
ATTEMPTS = Table(
    name="attempts",
    key={"tenant": "text", "job_id": "text", "task": "text", "assignment": "integer"},
    fixed={"execution_id": "text", "attempt": "integer", "cause": "text", "ready_at_ms": "bigint"},
    changing={
        "worker": "text",
        "incarnation": "text",
        "assigned_at_ms": "bigint",
        "started_at_ms": "bigint",
        "ended_at_ms": "bigint",
        "outcome": "text",
        "error_type": "text",
        "error": _OPAQUE,
        "error_encoding": "text",
        "reason": "text",
        "retry_at_ms": "bigint",
    },
)
QUEUES = Table(
    name="queues",
    key={"tenant": "text", "name": "text"},
    fixed={"created_at_ms": "bigint", "partition": "integer"},
    changing={
        "description": "text",
        "max_waiting_bytes": "bigint",
        "updated_at_ms": "bigint",
        "version": "bigint",
        "seq": "bigint",
    },
    counters=("enqueued", "assigned", "released", "withdrawn", "waiting", "waiting_bytes", "held"),
)
WAITING_TASKS = Table(
    name="waiting_tasks",
    key={"tenant": "text", "queue": "text", "job": "text", "task": "text"},
    fixed={
        "assignment": "integer",
        "priority": "smallint",
        "handler": "text",
        "bytes": "bigint",
        "ready_at_ms": "bigint",
    },
)
WORKERS = Table(
    name="workers",
    key={"tenant": "text", "queue": "text", "incarnation": "text"},
    fixed={"registered_at_ms": "bigint"},
    changing={
        "worker": "text",
        "pool": "text",
        "credits": "integer",
        "handlers": "jsonb",
        "lost": "boolean",
        "lost_at_ms": "bigint",
    },
    counters=("held",),
)
EVENTS = Table(
    name="events",
    key={"partition": "integer", "seq": "bigint"},
    fixed={
        "stream": "text",
        "version": "bigint",
        "type": "text",
        "at_ms": "bigint",
        "command_id": "text",
        "actor_kind": "text",
        "data": "text",
    },
)
SET_ASIDE = Table(
    name="set_aside",
    key={"partition": "integer", "seq": "bigint"},
    fixed={"stream": "text", "version": "bigint", "type": "text", "at_ms": "bigint", "reason": "text"},
)
#: The tables that are a fold of the events; `positions` says how far.
TABLES = (EVENTS, JOBS, ATTEMPTS, QUEUES, WAITING_TASKS, WORKERS, SET_ASIDE)


def bits(table: Table) -> dict[str, int]:
    """Which bit of a change's mask stands for which column."""
    return {column: 1 << place for place, column in enumerate(table.changing)}


def _given(table: Table, json_columns: list[str]) -> str:
    types = table.types
    listed = ", ".join(f"{column} {types[column]}" for column in json_columns)
    return f"json_to_recordset(%s::json) AS s({listed}, mask bigint)"


def _matches(table: Table) -> str:
    return " AND ".join(f"t.{column} = s.{column}" for column in table.key)


def copy_sql(table: Table) -> str:
    """COPY of whole new rows, as text."""
    return f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN"


def update_sql(table: Table) -> str:
    """Update from a JSON list of changes; each has the key columns, `mask`, and what it changes."""
    sets = [
        f"{column} = CASE WHEN s.mask & {bit} <> 0 THEN s.{column} ELSE t.{column} END"
        for column, bit in bits(table).items()
    ]
    sets += [f"{column} = t.{column} + coalesce(s.{column}, 0)" for column in table.counters]
    given = _given(table, [*table.key, *table.changing, *table.counters])
    still = "".join(f" AND t.status <> '{status}'" for status in table.final)
    return f"UPDATE {table.name} t SET {', '.join(sets)} FROM {given} WHERE {_matches(table)}{still}"


def insert_missing_sql(table: Table) -> str:
    """Insert those of a JSON list of whole rows that don't exist."""
    types = table.types
    listed = ", ".join(f"{column} {types[column]}" for column in table.columns)
    names = ", ".join(table.columns)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM json_to_recordset(%s::json) AS s({listed})"
        f" ON CONFLICT ({', '.join(table.key)}) DO NOTHING"
    )


def delete_sql(table: Table) -> str:
    """Delete by a JSON list of keys."""
    return f"DELETE FROM {table.name} t USING {_given(table, list(table.key))} WHERE {_matches(table)}"
