"""The queue, as the register of aggregates has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from jobledger.domain.kind import Changed, Kind, Part, Recorded, Settling
from jobledger.domain.queue import decide, evolve
from jobledger.domain.queue.commands import DispatchTasks, ExpireLease
from jobledger.domain.queue.events import (
    CreditsSet,
    QueueCreated,
    QueueTaskEvent,
    TaskAssigned,
    TaskEnqueued,
    TaskReleased,
    TaskRemoved,
    WorkerLost,
    WorkerRemoved,
)
from jobledger.domain.queue.state import Lanes, Queue, QueueState, QueueTask, QueueWorker, task_key

TASKS, WORKERS = "queue_task", "queue_worker"


def _create(record: Recorded) -> QueueState:
    return evolve.create(record.originator_id, record.data)


def _task(event: QueueTaskEvent | TaskEnqueued) -> tuple[str]:
    return (task_key(event.job, event.task),)


def _worker(event: CreditsSet | WorkerLost | WorkerRemoved) -> tuple[str]:
    return (event.incarnation,)


def _lost(event: WorkerLost) -> list[str]:
    return event.lost


_CHANGED_TASKS: Changed = {
    TaskEnqueued: _task,
    TaskAssigned: _task,
    TaskRemoved: _task,
    TaskReleased: _task,
    WorkerLost: _lost,
}
_CHANGED_WORKERS: Changed = dict.fromkeys((CreditsSet, WorkerLost, WorkerRemoved), _worker)


def _assemble(queue: Queue, parts: Mapping[str, MutableMapping[str, Any]]) -> QueueState:
    return QueueState(queue, Lanes(parts[TASKS]), dict(parts[WORKERS]))


def _held(state: QueueState) -> Iterator[tuple[str, ExpireLease]]:
    for incarnation, worker in state.workers.items():
        if not worker.lost:
            yield incarnation, ExpireLease(worker=worker.worker, incarnation=incarnation)


QUEUE = Kind(
    name="queue",
    snapshot=Queue,
    created_by=QueueCreated,
    create=_create,
    decide=decide.decide,
    evolve=evolve.EVOLVE,
    react=decide.react,
    parts=(
        Part(TASKS, "t", QueueTask, lambda state: state.lanes.tasks, _CHANGED_TASKS, packed=True),
        Part(WORKERS, "w", QueueWorker, lambda state: state.workers, _CHANGED_WORKERS),
    ),
    assemble=_assemble,
    settling=Settling(frozenset((*decide.DISPATCH_AFTER, TaskAssigned)), DispatchTasks),
    held=_held,
)
