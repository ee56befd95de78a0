"""The queue, as the register of aggregates has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jobledger.domain.kind import Kind, Part, Recorded, Settling
from jobledger.domain.queue import decide, evolve
from jobledger.domain.queue.commands import DispatchTasks, ExpireLease
from jobledger.domain.queue.events import (
    CreditsSet,
    QueueCreated,
    QueueEvent,
    QueueTaskEvent,
    TaskAssigned,
    WorkerLost,
    WorkerRemoved,
)
from jobledger.domain.queue.state import Lanes, Queue, QueueState, QueueTask, QueueWorker, task_key

TASKS, WORKERS = "queue_task", "queue_worker"


def _create(record: Recorded) -> QueueState:
    return evolve.create(record.originator_id, record.data)


def _changed_tasks(event: QueueEvent) -> Iterable[str]:
    if isinstance(event, QueueTaskEvent):
        return (task_key(event.job, event.task),)
    return event.lost if isinstance(event, WorkerLost) else ()


def _changed_workers(event: QueueEvent) -> Iterable[str]:
    return (event.incarnation,) if isinstance(event, CreditsSet | WorkerLost | WorkerRemoved) else ()


def _assemble(queue: Queue, parts: Mapping[str, Mapping[str, Any]]) -> QueueState:
    return QueueState(queue, Lanes(list(parts[TASKS].values())), dict(parts[WORKERS]))


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
        Part(TASKS, "t", QueueTask, lambda state: state.lanes.tasks, _changed_tasks),
        Part(WORKERS, "w", QueueWorker, lambda state: state.workers, _changed_workers),
    ),
    assemble=_assemble,
    settling=Settling((*decide.DISPATCH_AFTER, TaskAssigned), DispatchTasks),
    held=_held,
)
