"""Rows of the read model, and events of the log, as types of the schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from jobledger.domain.identity import split_stream
from jobledger.domain.job.state import JobStatus
from jobledger.graphql.row_mapping import shows
from jobledger.graphql.scalars import Json, Position, plain
from jobledger.graphql.types import jobs as t
from jobledger.graphql.types import queues as q
from jobledger.projections.rows import AttemptRow, JobRow, QueueRow, WorkerRow
from jobledger.schemas.events import EventRecord, type_name


def tags_of(tags: dict[str, str]) -> list[t.Tag]:
    """Tags in the order of their names."""
    return [t.Tag(name=name, value=value) for name, value in sorted(tags.items())]


def _retry_of(row: JobRow) -> t.RetryPolicy:
    return t.RetryPolicy(**{**msgspec.structs.asdict(row.retry), "give_up_on": list(row.retry.give_up_on)})


def _cancel_reason(row: JobRow) -> str | None:
    reason = plain(row.cancel_reason)
    return None if reason is None else str(reason)


def _attempt_status(row: AttemptRow) -> str:
    return row.outcome or ("RUNNING" if row.started_at_ms else "ASSIGNED" if row.assigned_at_ms else "READY")


def queue_id(name: str) -> str:
    """The global id of a queue."""
    return f"queue:{name}"


job_of = shows(
    t.Job,
    JobRow,
    status=lambda row: JobStatus(row.status),
    queue_name="queue",
    parent_id="parent",
    retry=_retry_of,
    tags=lambda row: tags_of(row.tags),
    cancel_reason=_cancel_reason,
)
attempt_of = shows(t.Attempt, AttemptRow, status=_attempt_status)
queue_of = shows(q.Queue, QueueRow, id=lambda row: queue_id(row.name))
_worker_of = shows(q.Worker, WorkerRow, id="worker", handlers=lambda row: sorted(row.handlers), queues=lambda row: [])
_worker_queue_of = shows(q.WorkerQueue, WorkerRow)


def workers_of(rows: Sequence[WorkerRow]) -> list[q.Worker]:
    """Registrations, one for each queue, put together by incarnation."""
    found: dict[str, q.Worker] = {}
    for row in rows:
        worker = found.get(row.incarnation)
        if worker is None:
            worker = found[row.incarnation] = _worker_of(row)
        worker.lost = worker.lost or row.lost
        worker.queues.append(_worker_queue_of(row))
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
