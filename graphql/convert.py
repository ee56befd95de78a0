"""Rows of the read model, and events of the log, as types of the schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from jobledger.domain.identity import split_stream
from jobledger.domain.job.state import JobStatus
from jobledger.graphql.scalars import Json, Position, plain
from jobledger.graphql.types import jobs as t
from jobledger.graphql.types import queues as q
from jobledger.projections.rows import AttemptRow, JobRow, QueueRow, WorkerRow
from jobledger.schemas.events import EventRecord, type_name


def tags_of(tags: dict[str, str]) -> list[t.Tag]:
    """Tags in the order of their names."""
    return [t.Tag(name=name, value=value) for name, value in sorted(tags.items())]


def job_of(row: JobRow) -> t.Job:
    """A job from its row."""
    values: dict[str, Any] = {
        "id": row.id,
        "status": JobStatus(row.status),
        "handler": row.handler,
        "queue_name": row.queue,
        "priority": row.priority,
        "version": row.version,
        "payload": plain(row.payload),
        "result": plain(row.result),
        "submitted_at": row.submitted_at_ms,
        "due_at": row.due_at_ms,
        "started_at": row.started_at_ms,
        "ended_at": row.ended_at_ms,
        "worker": row.worker,
        "attempt": row.attempt,
        "retry_at": row.retry_at_ms,
        "timeout_seconds": row.timeout_seconds,
        "retry": t.RetryPolicy(**{**msgspec.structs.asdict(row.retry), "give_up_on": list(row.retry.give_up_on)}),
        "tags": tags_of(row.tags),
        "parent_id": row.parent,
        "correlation_id": row.correlation_id,
        "traceparent": row.traceparent,
        "cancel_requested_at": row.cancel_requested_at_ms,
        "cancel_reason": _text(plain(row.cancel_reason)),
        "error_type": row.error_type,
        "error": plain(row.error),
        "dead_letter_cause": row.dead_letter_cause,
        "run": row.run,
    }
    return t.Job(**values)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def attempt_of(row: AttemptRow) -> t.Attempt:
    """A hand-out from its row."""
    status = row.outcome or ("RUNNING" if row.started_at_ms else "ASSIGNED" if row.assigned_at_ms else "READY")
    values: dict[str, Any] = {
        "attempt": row.attempt,
        "assignment": row.assignment,
        "execution_id": row.execution_id,
        "cause": row.cause,
        "status": status,
        "worker": row.worker,
        "ready_at": row.ready_at_ms,
        "assigned_at": row.assigned_at_ms,
        "started_at": row.started_at_ms,
        "ended_at": row.ended_at_ms,
        "retry_at": row.retry_at_ms,
        "error_type": row.error_type,
        "error": plain(row.error),
    }
    return t.Attempt(**values)


def queue_of(row: QueueRow) -> q.Queue:
    """A queue from its row."""
    values: dict[str, Any] = {
        "id": queue_id(row.name),
        "name": row.name,
        "description": row.description,
        "max_waiting_bytes": row.max_waiting_bytes,
        "created_at": row.created_at_ms,
        "updated_at": row.updated_at_ms,
        "waiting": row.waiting,
        "waiting_bytes": row.waiting_bytes,
        "held": row.held,
    }
    return q.Queue(**values)


def queue_id(name: str) -> str:
    """The global id of a queue."""
    return f"queue:{name}"


def workers_of(rows: Sequence[WorkerRow]) -> list[q.Worker]:
    """Registrations, one for each queue, put together by incarnation."""
    found: dict[str, q.Worker] = {}
    for row in rows:
        worker = found.get(row.incarnation)
        if worker is None:
            values: dict[str, Any] = {
                "id": row.worker,
                "incarnation": row.incarnation,
                "pool": row.pool,
                "handlers": sorted(row.handlers),
                "lost": row.lost,
                "registered_at": row.registered_at_ms,
                "queues": [],
            }
            worker = found[row.incarnation] = q.Worker(**values)
        worker.lost = worker.lost or row.lost
        worker.queues.append(q.WorkerQueue(queue=row.queue, credits=row.credits, held=row.held, lost=row.lost))
    return list(found.values())


def event_of(record: EventRecord, partition: int, position: str) -> t.JobEvent:
    """An event of a job from its record."""
    data = msgspec.to_builtins(record.data)
    del data["type"]
    values: dict[str, Any] = {
        "id": record.id,
        "type": type_name(record.data),
        "job_id": split_stream(record.originator_id)[2],
        "version": record.originator_version,
        "partition": partition,
        "seq": record.seq,
        "at": record.at_ms,
        "command_id": record.command_id,
        "correlation_id": record.correlation_id,
        "causation_id": record.causation_id,
        "traceparent": record.traceparent,
        "actor": t.Actor(kind=record.actor.kind.value, id=record.actor.id),
        "tags": tags_of(record.lineage.tags) if record.lineage.tags else [],
        "data": Json(data),
        "status": JobStatus(record.status) if record.status else None,
        "position": Position(position),
    }
    return t.JobEvent(**values)
