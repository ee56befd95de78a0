"""The fold: what each type of event changes in the read models. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import asdict

from jobledger.domain.cell.events import LevelEnabled, LevelRaised
from jobledger.domain.events import AnyEvent
from jobledger.domain.identity import split_stream
from jobledger.domain.job import events as je
from jobledger.domain.queue import events as qe
from jobledger.domain.queue.settings import settings_of
from jobledger.domain.tenant.events import TenantCreated, TenantUpdated
from jobledger.projections.changes import Changes, EventValues, add, set_opaque
from jobledger.projections.columns import Change, Key
from jobledger.schemas.events import EventRecord, type_name

_encode = msgspec.json.Encoder().encode


def fold(changes: Changes, record: EventRecord, partition: int, raw: bytes) -> None:
    """Add an event to a batch. `raw` is the record's value; it becomes the history's row.

    Raises ValueError when the stream id has another form than `<type>:<tenant>:<name>`.
    """
    _, tenant, name = split_stream(record.originator_id)
    event = record.data
    _keep(changes, record, partition, raw)
    APPLY[type(event)](changes, record, (tenant, name), event, partition)


def set_aside(changes: Changes, record: EventRecord, partition: int, raw: bytes, reason: str) -> None:
    """Add an event that changes no row: it stands in the history, and among those that were set aside."""
    _keep(changes, record, partition, raw)
    changes.set_aside[partition, record.seq] = {
        "stream": record.originator_id,
        "version": record.originator_version,
        "type": type_name(record.data),
        "at_ms": record.at_ms,
        "reason": reason,
    }


def _keep(changes: Changes, record: EventRecord, partition: int, raw: bytes) -> None:
    changes.events.append(event_values(record, partition, raw))


def event_values(record: EventRecord, partition: int, raw: bytes) -> EventValues:
    """The row of `events` of an event."""
    return (
        partition,
        record.seq,
        record.originator_id,
        record.originator_version,
        type_name(record.data),
        record.at_ms,
        record.command_id,
        record.actor.kind.value,
        raw,
    )


# -- jobs -------------------------------------------------------------------------------------------------------------


def _touch(changes: Changes, record: EventRecord, key: Key) -> Change:
    job = changes.jobs.change(key)
    job["version"], job["seq"], job["updated_at_ms"] = record.originator_version, record.seq, record.at_ms
    if (status := record.status) is not None:
        job["status"] = status
    return job


def _attempt(changes: Changes, key: Key, event: Any) -> Change:
    return changes.attempts.change((*key, event.task, event.assignment))


def _submitted(changes: Changes, record: EventRecord, key: Key, event: je.JobSubmitted, partition: int) -> None:
    lineage = record.lineage
    changes.jobs.make(
        key,
        {
            "handler": event.handler,
            "queue": event.queue,
            "priority": event.priority,
            "retry": _encode(event.retry).decode(),
            "timeout_seconds": event.timeout_seconds,
            "submitted_at_ms": event.submitted_at_ms,
            "due_at_ms": event.due_at_ms,
            "expected_duration_seconds": event.expected_duration_seconds,
            "payload": event.payload.data,
            "payload_encoding": event.payload.encoding,
            "tags": lineage.tags,
            "parent": lineage.parent,
            "root": lineage.root,
            "retry_of": lineage.retry_of,
            "schedule": lineage.schedule,
            "fire_at_ms": lineage.fire_at_ms,
            "workflow": lineage.workflow,
            "workflow_version": lineage.workflow_version,
            "key_digest": event.key_digest,
            "request_digest": event.request_digest,
            "command_id": record.command_id,
            "actor_kind": record.actor.kind.value,
            "actor_id": record.actor.id,
            "correlation_id": record.correlation_id,
            "traceparent": record.traceparent,
            "partition": partition,
        },
    )
    _touch(changes, record, key)


def _ready(changes: Changes, record: EventRecord, key: Key, event: je.TaskReady, partition: int) -> None:
    job = _touch(changes, record, key)
    job["attempt"], job["assignment"], job["ready_at_ms"] = event.attempt, event.assignment, event.ready_at_ms
    job["started_at_ms"] = job["retry_at_ms"] = job["worker"] = None
    row = {
        "execution_id": event.execution_id,
        "attempt": event.attempt,
        "cause": event.cause.value,
        "ready_at_ms": event.ready_at_ms,
    }
    changes.attempts.make((*key, event.task, event.assignment), row)


def attempt_key(record: EventRecord) -> Key | None:
    """Of the row of `attempts` that an event makes; None: it makes none."""
    event = record.data
    if not isinstance(event, je.TaskReady):
        return None
    return (*split_stream(record.originator_id)[1:], event.task, event.assignment)


def _started(changes: Changes, record: EventRecord, key: Key, event: je.TaskStarted, partition: int) -> None:
    job = _touch(changes, record, key)
    job["worker"], job["started_at_ms"] = event.worker, event.started_at_ms
    attempt = _attempt(changes, key, event)
    attempt["worker"], attempt["incarnation"] = event.worker, event.incarnation
    attempt["assigned_at_ms"], attempt["started_at_ms"] = event.assigned_at_ms, event.started_at_ms


def _checkpoint(changes: Changes, record: EventRecord, key: Key, event: je.TaskCheckpointSaved, partition: int) -> None:
    job = _touch(changes, record, key)
    set_opaque(job, "checkpoint", event.checkpoint)
    job["checkpoint_at_ms"] = event.saved_at_ms


def _task_succeeded(changes: Changes, record: EventRecord, key: Key, event: je.TaskSucceeded, partition: int) -> None:
    job = _touch(changes, record, key)
    set_opaque(job, "result", event.result)
    attempt = _attempt(changes, key, event)
    attempt["outcome"], attempt["ended_at_ms"] = "SUCCEEDED", event.ended_at_ms


def _failed(changes: Changes, record: EventRecord, key: Key, event: je.TaskFailed, partition: int) -> None:
    job, attempt = _touch(changes, record, key), _attempt(changes, key, event)
    # The error is the attempt's; the job has one only when this attempt was its last.
    for row in (attempt,) if event.retry_at_ms is not None else (attempt, job):
        row["error_type"] = event.error_type
        set_opaque(row, "error", event.error)
    if event.retry_at_ms is not None:
        job["retry_at_ms"] = event.retry_at_ms
    attempt["outcome"], attempt["ended_at_ms"] = event.kind.value, event.ended_at_ms
    attempt["retry_at_ms"] = event.retry_at_ms


def _lost(changes: Changes, record: EventRecord, key: Key, event: je.TaskLost, partition: int) -> None:
    job, attempt = _touch(changes, record, key), _attempt(changes, key, event)
    if event.retry_at_ms is not None:
        job["retry_at_ms"] = event.retry_at_ms
    attempt["outcome"], attempt["ended_at_ms"], attempt["worker"] = "LOST", event.lost_at_ms, event.worker
    attempt["retry_at_ms"] = event.retry_at_ms


def _returned(changes: Changes, record: EventRecord, key: Key, event: je.TaskReturned, partition: int) -> None:
    _touch(changes, record, key)
    attempt = _attempt(changes, key, event)
    attempt["outcome"], attempt["ended_at_ms"], attempt["worker"] = "RETURNED", event.returned_at_ms, event.worker
    attempt["reason"] = event.reason


def _task_cancelled(changes: Changes, record: EventRecord, key: Key, event: je.TaskCancelled, partition: int) -> None:
    changes.signals.of_job(partition, record.at_ms, key, _touch(changes, record, key), event)
    attempt = _attempt(changes, key, event)
    attempt["outcome"], attempt["ended_at_ms"] = "CANCELLED", event.ended_at_ms
    if event.worker:
        attempt["worker"] = event.worker


def _cancel_requested(
    changes: Changes, record: EventRecord, key: Key, event: je.JobCancelRequested, partition: int
) -> None:
    job = _touch(changes, record, key)
    job["cancel_requested_at_ms"] = event.requested_at_ms
    set_opaque(job, "cancel_reason", event.reason)


def _succeeded(changes: Changes, record: EventRecord, key: Key, event: je.JobSucceeded, partition: int) -> None:
    job = _touch(changes, record, key)
    job["ended_at_ms"] = event.ended_at_ms
    changes.signals.of_job(partition, record.at_ms, key, job, event)


def _cancelled(changes: Changes, record: EventRecord, key: Key, event: je.JobCancelled, partition: int) -> None:
    job = _touch(changes, record, key)
    job["ended_at_ms"], job["retry_at_ms"] = event.ended_at_ms, None
    _no_error(job)
    if event.reason is not None:
        set_opaque(job, "cancel_reason", event.reason)
    changes.signals.of_job(partition, record.at_ms, key, job, event)


def _no_error(job: Change) -> None:
    job["error_type"] = None
    set_opaque(job, "error", None)


def _dead_lettered(changes: Changes, record: EventRecord, key: Key, event: je.JobDeadLettered, partition: int) -> None:
    job = _touch(changes, record, key)
    job["ended_at_ms"], job["dead_letter_cause"] = event.ended_at_ms, event.cause.value
    changes.signals.of_job(partition, record.at_ms, key, job, event)


def _redriven(changes: Changes, record: EventRecord, key: Key, event: je.JobRedriven, partition: int) -> None:
    job = _touch(changes, record, key)
    job["run"], job["ended_at_ms"], job["dead_letter_cause"] = event.run, None, None
    _no_error(job)


def _discarded(changes: Changes, record: EventRecord, key: Key, event: je.JobDiscarded, partition: int) -> None:
    _touch(changes, record, key)["ended_at_ms"] = event.discarded_at_ms


# -- queues -----------------------------------------------------------------------------------------------------------


def _count(changes: Changes, record: EventRecord, key: Key) -> Change:
    queue = changes.queues.change(key)
    queue["version"], queue["seq"] = record.originator_version, record.seq
    return queue


def _queue_created(changes: Changes, record: EventRecord, key: Key, event: qe.QueueCreated, partition: int) -> None:
    row = {
        "created_at_ms": event.created_at_ms,
        "updated_at_ms": event.created_at_ms,
        **asdict(settings_of(event)),
        "partition": partition,
    }
    changes.queues.make(key, row)
    _count(changes, record, key)


def _queue_updated(changes: Changes, record: EventRecord, key: Key, event: qe.QueueUpdated, partition: int) -> None:
    queue = _count(changes, record, key)
    queue["updated_at_ms"] = event.updated_at_ms
    queue.update(asdict(settings_of(event)))


def _enqueued(changes: Changes, record: EventRecord, key: Key, event: qe.TaskEnqueued, partition: int) -> None:
    _count(changes, record, key)
    row = {
        "assignment": event.assignment,
        "priority": event.priority,
        "handler": event.handler,
        "bytes": len(event.payload.data),
        "ready_at_ms": event.ready_at_ms,
    }
    changes.enqueue((*key, event.job, event.task), row)


def _assigned(changes: Changes, record: EventRecord, key: Key, event: qe.TaskAssigned, partition: int) -> None:
    queue = _count(changes, record, key)
    add(queue, "assigned", 1)
    add(queue, "held", 1)
    changes.take((*key, event.job, event.task))
    add(changes.workers.change((*key, event.incarnation)), "held", 1)
    changes.signals.assigned(partition, record.at_ms, event)


def _withdrawn(changes: Changes, record: EventRecord, key: Key, event: qe.TaskRemoved, partition: int) -> None:
    add(_count(changes, record, key), "withdrawn", 1)
    changes.take((*key, event.job, event.task))


def _released(changes: Changes, record: EventRecord, key: Key, event: qe.TaskReleased, partition: int) -> None:
    queue = _count(changes, record, key)
    add(queue, "released", 1)
    add(queue, "held", -1)
    add(changes.workers.change((*key, event.incarnation)), "held", -1)


def _cancel_sent(changes: Changes, record: EventRecord, key: Key, event: qe.TaskCancelSent, partition: int) -> None:
    _count(changes, record, key)


# -- workers ----------------------------------------------------------------------------------------------------------


def _credits_set(changes: Changes, record: EventRecord, key: Key, event: qe.CreditsSet, partition: int) -> None:
    """A new row, or a change of one that exists: only the table knows (`registered_at_ms` stays in the second case)."""
    _count(changes, record, key)
    worker_key = (*key, event.incarnation)
    row = changes.workers.change(worker_key)
    changes.workers.made.add(worker_key)
    row.setdefault("registered_at_ms", event.set_at_ms)
    row["worker"], row["pool"] = event.worker, event.pool
    row["credits"], row["handlers"] = event.credits, event.handlers
    row["lost"], row["lost_at_ms"] = False, None


def _worker_lost(changes: Changes, record: EventRecord, key: Key, event: qe.WorkerLost, partition: int) -> None:
    _count(changes, record, key)
    worker_key = (*key, event.incarnation)
    row = changes.workers.change(worker_key)
    row["lost"], row["lost_at_ms"] = True, event.lost_at_ms
    lost = {"worker": event.worker, "pool": row.get("pool"), "lost_at_ms": event.lost_at_ms}
    changes.workers_lost.setdefault(worker_key, lost)


def _worker_removed(changes: Changes, record: EventRecord, key: Key, event: qe.WorkerRemoved, partition: int) -> None:
    _count(changes, record, key)
    worker_key = (*key, event.incarnation)
    changes.workers.rows.pop(worker_key, None)
    changes.workers.made.discard(worker_key)
    changes.workers_removed.add(worker_key)


def _history_only(changes: Changes, record: EventRecord, key: Key, event: Any, partition: int) -> None:
    """Tenants and the cell have no read model; their events stand in the history."""


APPLY: dict[type[AnyEvent], Callable[[Changes, EventRecord, Key, Any, int], None]] = {
    je.JobSubmitted: _submitted,
    je.TaskReady: _ready,
    je.TaskStarted: _started,
    je.TaskCheckpointSaved: _checkpoint,
    je.TaskSucceeded: _task_succeeded,
    je.TaskFailed: _failed,
    je.TaskLost: _lost,
    je.TaskReturned: _returned,
    je.TaskCancelled: _task_cancelled,
    je.JobCancelRequested: _cancel_requested,
    je.JobSucceeded: _succeeded,
    je.JobDeadLettered: _dead_lettered,
    je.JobCancelled: _cancelled,
    je.JobRedriven: _redriven,
    je.JobDiscarded: _discarded,
    qe.QueueCreated: _queue_created,
    qe.QueueUpdated: _queue_updated,
    qe.TaskEnqueued: _enqueued,
    qe.TaskAssigned: _assigned,
    qe.TaskRemoved: _withdrawn,
    qe.TaskReleased: _released,
    qe.TaskCancelSent: _cancel_sent,
    qe.CreditsSet: _credits_set,
    qe.WorkerLost: _worker_lost,
    qe.WorkerRemoved: _worker_removed,
    LevelEnabled: _history_only,
    LevelRaised: _history_only,
    TenantCreated: _history_only,
    TenantUpdated: _history_only,
}
