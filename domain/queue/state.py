"""State of a queue: its snapshot, its waiting and held tasks, its workers."""

from __future__ import annotations

from collections.abc import MutableMapping

import msgspec

from jobledger.domain.queue.settings import QueueSettings
from jobledger.domain.spec import ReadyTask

PRIORITIES = range(1, 6)


class QueueTask(ReadyTask, frozen=False, kw_only=True, gc=False):  # type: ignore[misc]  # as Job
    """A task in the queue; `number` counts those that came. `incarnation` set: a worker holds it."""

    number: int
    worker: str | None = None
    incarnation: str | None = None
    assigned_at_ms: int = 0
    lost: bool = False

    @property
    def key(self) -> str:
        """Names the task within its queue."""
        return task_key(self.job, self.task)


class QueueWorker(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A registered worker incarnation. `lost`: its lease has expired, its tasks are being given up."""

    worker: str
    pool: str
    credits: int
    handlers: list[str]
    lost: bool = False


class Queue(QueueSettings, frozen=False, kw_only=True):  # type: ignore[misc]  # as Job
    """Snapshot of a queue. Its tasks and workers are stored beside it, one record each."""

    id: str
    version: int
    created_at_ms: int
    enqueued: int = 0
    created_seq: int = 0
    recent: list[str] = []

    class_version = 1


class Lanes:
    """The waiting and held tasks of a queue, indexed for dispatch; rebuilt from the stored tasks.

    `waiting[priority][handler]` maps task keys to enqueue numbers in the order of the numbers.
    """

    __slots__ = ("held", "tasks", "waiting", "waiting_bytes")

    def __init__(self, tasks: MutableMapping[str, QueueTask] | None = None) -> None:
        """`tasks` by key is taken over, and changed by what happens to them."""
        self.tasks: MutableMapping[str, QueueTask] = {} if tasks is None else tasks
        self.waiting: dict[int, dict[str, dict[str, int]]] = {priority: {} for priority in PRIORITIES}
        self.held: dict[str, dict[str, None]] = {}
        self.waiting_bytes = 0
        for task in sorted(self.tasks.values(), key=lambda task: task.number):
            self._index(task)

    def add(self, task: QueueTask) -> None:
        """Take in a task that waits."""
        self.tasks[task.key] = task
        self._index(task)

    def _index(self, task: QueueTask) -> None:
        if task.incarnation is None:
            self.waiting[task.priority].setdefault(task.handler, {})[task.key] = task.number
            self.waiting_bytes += len(task.payload.data)
        else:
            self.held.setdefault(task.incarnation, {})[task.key] = None

    def remove(self, key: str) -> None:
        """Forget a task."""
        task = self.tasks.pop(key)
        if task.incarnation is None:
            self._unwait(task)
        else:
            holder = self.held[task.incarnation]
            del holder[key]
            if not holder:
                del self.held[task.incarnation]

    def assign(self, key: str, worker: str, incarnation: str, at_ms: int) -> None:
        """Move a task from waiting to held."""
        task = self.tasks[key]
        self._unwait(task)
        task.worker, task.incarnation, task.assigned_at_ms = worker, incarnation, at_ms
        self.held.setdefault(incarnation, {})[key] = None

    def _unwait(self, task: QueueTask) -> None:
        lane = self.waiting[task.priority][task.handler]
        del lane[task.key]
        if not lane:
            del self.waiting[task.priority][task.handler]
        self.waiting_bytes -= len(task.payload.data)

    def held_by(self, incarnation: str) -> dict[str, None]:
        """Keys of the tasks that a worker holds."""
        return self.held.get(incarnation, {})

    def oldest_ready_ms(self) -> int | None:
        """When the longest waiting task became ready; None when none waits. Lanes are in the order of arrival."""
        heads = (next(iter(lane)) for lanes in self.waiting.values() for lane in lanes.values())
        return min((self.tasks[key].ready_at_ms for key in heads), default=None)

    def depth(self, priority: int) -> int:
        """Waiting tasks of one priority."""
        return sum(len(lane) for lane in self.waiting[priority].values())


class QueueState:
    """A queue, its lanes and its workers by incarnation: what decide and evolve see."""

    __slots__ = ("lanes", "queue", "workers")

    def __init__(self, queue: Queue, lanes: Lanes, workers: dict[str, QueueWorker]) -> None:
        self.queue = queue
        self.lanes = lanes
        self.workers = workers

    @property
    def head(self) -> Queue:
        """The snapshot."""
        return self.queue


def task_key(job: str, task: str) -> str:
    """Names a task within its queue."""
    return f"{job}/{task}"
