"""How the events of a queue change its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobledger.domain.queue import events as e
from jobledger.domain.queue.settings import QueueSettings
from jobledger.domain.queue.state import Lanes, Queue, QueueState, QueueTask, QueueWorker, task_key
from jobledger.domain.spec import ReadyTask
from jobledger.domain.values import carrier

_queue = carrier(QueueSettings, Queue)
_task = carrier(ReadyTask, QueueTask)


def create(stream: str, event: e.QueueCreated) -> QueueState:
    """The queue after its first event."""
    queue = _queue(event, id=stream, version=1, created_at_ms=event.created_at_ms)
    return QueueState(queue, Lanes(), {})


def _on_updated(state: QueueState, event: e.QueueUpdated) -> None:
    for name in QueueSettings.__struct_fields__:
        setattr(state.queue, name, getattr(event, name))


def _on_enqueued(state: QueueState, event: e.TaskEnqueued) -> None:
    state.queue.enqueued += 1
    state.lanes.add(_task(event, number=state.queue.enqueued))


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
