"""SQL conditions of a filter over jobs: constant text, values bound by name."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from jobledger.projections.pages import JobFilter

_ONE_OF: dict[str, LiteralString] = {
    "statuses": "status = ANY(%(statuses)s)",
    "queues": "queue = ANY(%(queues)s)",
    "handlers": "handler = ANY(%(handlers)s)",
    "priorities": "priority = ANY(%(priorities)s)",
    "ids": "id = ANY(%(ids)s)",
}
_COMPARED: dict[str, LiteralString] = {
    "submitted_from_ms": "submitted_at_ms >= %(submitted_from_ms)s",
    "submitted_before_ms": "submitted_at_ms < %(submitted_before_ms)s",
    "due_from_ms": "due_at_ms >= %(due_from_ms)s",
    "due_before_ms": "due_at_ms < %(due_before_ms)s",
    "ended_from_ms": "ended_at_ms >= %(ended_from_ms)s",
    "ended_before_ms": "ended_at_ms < %(ended_before_ms)s",
    "key_digest": "key_digest = %(key_digest)s",
    "worker": "worker = %(worker)s",
    "parent": "parent = %(parent)s",
    "root": "root = %(root)s",
    "retry_of": "retry_of = %(retry_of)s",
    "schedule": "schedule = %(schedule)s",
    "workflow": "workflow = %(workflow)s",
}


def conditions(wanted: JobFilter) -> tuple[list[LiteralString], dict[str, Any]]:
    """Conditions, to be joined with AND, and their parameters."""
    found: list[LiteralString] = []
    params: dict[str, Any] = {}
    for name, condition in _ONE_OF.items():
        if values := getattr(wanted, name):
            found.append(condition)
            params[name] = list(values)
    for name, condition in _COMPARED.items():
        if (value := getattr(wanted, name)) is not None:
            found.append(condition)
            params[name] = value
    if wanted.statuses and "SUCCEEDED" not in wanted.statuses:
        found.append("status <> 'SUCCEEDED'")  # so that the index of unfinished jobs serves
    if wanted.tags:
        found.append("tags @> %(tags)s AND tags <> '{}'")
        params["tags"] = Jsonb(wanted.tags)
    return found, params
