"""How the events of a queue change its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobledger.domain.queue import events as e
from jobledger.domain.queue.state import Lanes, Queue, QueueState, QueueTask, QueueWorker, task_key


def create(stream: str, event: e.QueueCreated) -> QueueState:
    """The queue after its first event."""
    queue = Queue(
        id=stream,
        version=1,
        created_at_ms=event.created_at_ms,
        max_waiting_bytes=event.max_waiting_bytes,
        description=event.description,
        recent=[],
    )
    return QueueState(queue, Lanes(), {})


def _on_updated(state: QueueState, event: e.QueueUpdated) -> None:
    state.queue.max_waiting_bytes, state.queue.description = event.max_waiting_bytes, event.description


def _on_enqueued(state: QueueState, event: e.TaskEnqueued) -> None:
    state.queue.enqueued += 1
    state.lanes.add(
        QueueTask(
            job=event.job,
            task=event.task,
            assignment=event.assignment,
            number=state.queue.enqueued,
            execution_id=event.execution_id,
            attempt=event.attempt,
            handler=event.handler,
            priority=event.priority,
            payload=event.payload,
            due_at_ms=event.due_at_ms,
            ready_at_ms=event.ready_at_ms,
            timeout_seconds=event.timeout_seconds,
            traceparent=event.traceparent,
            correlation_id=event.correlation_id,
            checkpoint=event.checkpoint,
            start_first=event.start_first,
        )
    )


def _on_assigned(state: QueueState, event: e.TaskAssigned) -> None:
    state.lanes.assign(task_key(event.job, event.task), event.worker, event.incarnation, event.assigned_at_ms)


def _on_gone(state: QueueState, event: e.TaskRemoved | e.TaskReleased) -> None:
    state.lanes.remove(task_key(event.job, event.task))


def _on_credits_set(state: QueueState, event: e.CreditsSet) -> None:
    state.workers[event.incarnation] = QueueWorker(
        worker=event.worker, pool=event.pool, credits=event.credits, handlers=event.handlers
    )


def _on_worker_lost(state: QueueState, event: e.WorkerLost) -> None:
    state.workers[event.incarnation].lost = True
    for key in event.lost:
        state.lanes.tasks[key].lost = True


def _on_worker_removed(state: QueueState, event: e.WorkerRemoved) -> None:
    state.workers.pop(event.incarnation, None)


def _unchanged(state: QueueState, event: e.QueueEvent) -> None:
    """A message to the worker follows; the queue stays as it is."""


EVOLVE: dict[type[e.QueueEvent], Callable[[QueueState, Any], None]] = {
    e.QueueUpdated: _on_updated,
    e.TaskEnqueued: _on_enqueued,
    e.TaskAssigned: _on_assigned,
    e.TaskRemoved: _on_gone,
    e.TaskReleased: _on_gone,
    e.TaskCancelSent: _unchanged,
    e.CreditsSet: _on_credits_set,
    e.WorkerLost: _on_worker_lost,
    e.WorkerRemoved: _on_worker_removed,
}
