"""The queue: which waiting task goes to which worker slot."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from jobledger.domain.effects import Effect, FollowUp, ToWorker
from jobledger.domain.identity import invalid_name, is_name, split_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.state import MAIN_TASK
from jobledger.domain.queue import commands as c
from jobledger.domain.queue import events as e
from jobledger.domain.queue.settings import DEFAULT_SETTINGS, QueueSettings, changed, settings_of
from jobledger.domain.queue.state import PRIORITIES, QueueState, QueueTask, task_key
from jobledger.domain.spec import Assignment, ReadyTask
from jobledger.domain.values import Answer, Code, Opaque, Rejection, carrier
from jobledger.domain.worker_messages import CancelTask, RunTask

#: Assignments of one decision; what is over it goes in the next one.
MAX_ASSIGNMENTS_PER_DISPATCH = 400
#: Lost tasks of one decision, likewise: each costs its job several events.
MAX_LOST_PER_DECISION = 100
#: Payload bytes of one dispatch (the first task may be larger), so that a transaction stays small.
MAX_BYTES_PER_DISPATCH = 1 << 20

_create = carrier(QueueSettings, e.QueueCreated)
_updated = carrier(QueueSettings, e.QueueUpdated)
_enqueued = carrier(ReadyTask, e.TaskEnqueued)
_run = carrier(Assignment, RunTask)


# -- decide -----------------------------------------------------------------------------------------------------------


def _created(now: int, command: c.QueueCommand) -> e.QueueCreated:
    return _create(command if isinstance(command, c.CreateQueue) else DEFAULT_SETTINGS, created_at_ms=now)


def _update(state: QueueState, command: c.UpdateQueue, now: int) -> list[e.QueueEvent]:
    before = settings_of(state.queue)
    after = changed(before, command)
    return [] if after == before else [_updated(after, updated_at_ms=now)]


def _enqueue(state: QueueState | None, command: c.EnqueueTask, now: int) -> list[e.QueueEvent] | Rejection:
    if state and task_key(command.job, command.task) in state.lanes.tasks:
        return Rejection(
            code=Code.ALREADY_EXISTS, message=f"Task '{command.task}' of '{command.job}' is in the queue already."
        )
    return [_enqueued(command, enqueued_at_ms=now)]


def _find(state: QueueState, ref: c.TaskRef) -> QueueTask | Rejection:
    task = state.lanes.tasks.get(task_key(ref.job, ref.task))
    if task is None or task.assignment != ref.assignment:
        return Rejection(
            code=Code.STALE_ASSIGNMENT,
            message=f"Assignment {ref.assignment} of task '{ref.task}' of '{ref.job}' is not in the queue.",
            field="assignment",
            value=str(ref.assignment),
        )
    return task


def _withdraw(state: QueueState, command: c.WithdrawTask, now: int) -> list[e.QueueEvent] | Rejection:
    task = _find(state, command)
    if isinstance(task, Rejection):
        return task
    if task.incarnation is None:
        return [e.TaskRemoved(job=task.job, task=task.task, assignment=task.assignment, withdrawn_at_ms=now)]
    assert task.worker is not None
    if task.lost:
        return []
    return [
        e.TaskCancelSent(
            job=task.job,
            task=task.task,
            assignment=task.assignment,
            worker=task.worker,
            incarnation=task.incarnation,
            sent_at_ms=now,
        )
    ]


def _release(state: QueueState, command: c.ReleaseTask, now: int) -> list[e.QueueEvent] | Rejection:
    task = _find(state, command)
    if isinstance(task, Rejection):
        return task
    if task.incarnation is None:
        # No worker has it, yet its job is done with it: somebody reported on an assignment that was not his.
        # It must not be handed out any more, and must not stand in the way of the next one.
        return [e.TaskRemoved(job=task.job, task=task.task, assignment=task.assignment, withdrawn_at_ms=now)]
    assert task.worker is not None
    events: list[e.QueueEvent] = [
        e.TaskReleased(
            job=task.job,
            task=task.task,
            assignment=task.assignment,
            worker=task.worker,
            incarnation=task.incarnation,
            outcome=command.outcome,
            released_at_ms=now,
        )
    ]
    holder = state.workers.get(task.incarnation)
    if holder and holder.lost and len(state.lanes.held_by(task.incarnation)) == 1:
        events.append(e.WorkerRemoved(worker=task.worker, incarnation=task.incarnation, removed_at_ms=now))
    return events


def _set_credits(state: QueueState | None, command: c.SetCredits, now: int) -> list[e.QueueEvent] | Rejection:
    known = state.workers.get(command.incarnation) if state else None
    if known and known.lost:
        return Rejection(
            code=Code.INVALID_STATE,
            message=f"Worker '{command.worker}' was lost: its lease expired. It has to start as a new incarnation.",
            field="incarnation",
            value=command.incarnation,
        )
    if known and (known.credits, known.handlers) == (command.credits, command.handlers):
        return []
    return [
        e.CreditsSet(
            worker=command.worker,
            incarnation=command.incarnation,
            pool=command.pool,
            credits=command.credits,
            handlers=command.handlers,
            set_at_ms=now,
        )
    ]


def _remove_worker(state: QueueState, command: c.RemoveWorker, now: int) -> list[e.QueueEvent] | Rejection:
    if command.incarnation not in state.workers:
        return []
    held = len(state.lanes.held_by(command.incarnation))
    if held:
        return Rejection(
            code=Code.INVALID_STATE, message=f"Worker '{command.worker}' still holds {held} task(s) of this queue."
        )
    return [e.WorkerRemoved(worker=command.worker, incarnation=command.incarnation, removed_at_ms=now)]


def _expire(state: QueueState, command: c.ExpireLease, now: int) -> list[e.QueueEvent] | Rejection:
    worker = state.workers.get(command.incarnation)
    if worker is None:
        return []
    left = [key for key in state.lanes.held_by(command.incarnation) if not state.lanes.tasks[key].lost]
    events: list[e.QueueEvent] = []
    if left or not worker.lost:
        lost = left[:MAX_LOST_PER_DECISION]
        events.append(e.WorkerLost(worker=command.worker, incarnation=command.incarnation, lost_at_ms=now, lost=lost))
    if not state.lanes.held_by(command.incarnation):
        events.append(e.WorkerRemoved(worker=command.worker, incarnation=command.incarnation, removed_at_ms=now))
    return events


def free_slots(state: QueueState) -> dict[str, int]:
    """Free slots of each live incarnation that has any: its credits minus what it holds."""
    free = {}
    for incarnation, worker in state.workers.items():
        slots = worker.credits - len(state.lanes.held_by(incarnation))
        if slots > 0 and not worker.lost:
            free[incarnation] = slots
    return free


def _in_order(groups: dict[str, dict[str, int]]) -> Generator[tuple[str, str], bool, None]:
    """(handler, task key) of one priority by enqueue number; `send(True)` drops the rest of that handler."""
    lanes = {handler: iter(lane.items()) for handler, lane in groups.items()}
    heads = [(number, handler, key) for handler, lane in lanes.items() for key, number in [next(lane)]]
    heapq.heapify(heads)
    while heads:
        _, handler, key = heads[0]
        blocked = yield handler, key
        following = None if blocked else next(lanes[handler], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following[1], handler, following[0]))


def pairs(state: QueueState, limit: int) -> list[tuple[QueueTask, str]]:
    """Which waiting task goes to which incarnation now: priority, then age; workers take turns."""
    free = free_slots(state)
    chosen: list[tuple[QueueTask, str]] = []
    bytes_left = MAX_BYTES_PER_DISPATCH
    for priority in PRIORITIES:
        order = _in_order(state.lanes.waiting[priority])
        item = next(order, None)
        while item is not None and free and len(chosen) < limit and bytes_left > 0:
            handler, key = item
            taker = next((i for i in free if handler in state.workers[i].handlers), None)
            if taker is not None:
                chosen.append((state.lanes.tasks[key], taker))
                bytes_left -= len(state.lanes.tasks[key].payload.data)
                slots = free.pop(taker) - 1
                if slots:
                    free[taker] = slots  # to the end: the next worker is first in line
            try:
                item = order.send(taker is None)
            except StopIteration:
                item = None
    return chosen


def _dispatch(state: QueueState, command: c.DispatchTasks, now: int) -> list[e.QueueEvent]:
    return [
        e.TaskAssigned(
            job=task.job,
            task=task.task,
            assignment=task.assignment,
            execution_id=task.execution_id,
            attempt=task.attempt,
            worker=state.workers[incarnation].worker,
            incarnation=incarnation,
            assigned_at_ms=now,
            ready_at_ms=task.ready_at_ms,
            due_at_ms=task.due_at_ms,
            priority=task.priority,
        )
        for task, incarnation in pairs(state, MAX_ASSIGNMENTS_PER_DISPATCH)
    ]


def _why_waiting(state: QueueState, job: str) -> str:
    task = state.lanes.tasks.get(task_key(job, MAIN_TASK))
    if task is None:
        return "not in this queue"
    if task.incarnation is not None:
        return f"held by worker '{task.worker}'"
    serving = [w for w in state.workers.values() if task.handler in w.handlers and not w.lost]
    if not serving:
        return f"no worker serves handler '{task.handler}' on this queue"
    return "all slots of the workers that serve its handler are taken"


def _query(state: QueueState, command: c.QueryQueue, now: int) -> Answer:
    seen: dict[str, Any] = {
        "depth": {str(p): state.lanes.depth(p) for p in PRIORITIES},
        "waiting_bytes": state.lanes.waiting_bytes,
        "max_waiting_bytes": state.queue.max_waiting_bytes,
        "held": sum(map(len, state.lanes.held.values())),
        "workers": [
            {
                "worker": w.worker,
                "incarnation": i,
                "pool": w.pool,
                "credits": w.credits,
                "held": len(state.lanes.held_by(i)),
                "lost": w.lost,
            }
            for i, w in list(state.workers.items())[:1000]
        ],
    }
    if command.job:
        seen["why"] = _why_waiting(state, command.job)
    if command.handler:
        seen["serving"] = sum(command.handler in w.handlers and not w.lost for w in state.workers.values())
    return Answer(data=Opaque(msgspec.json.encode(seen).decode()))


_DECIDE: dict[type[c.QueueCommand], Callable[[QueueState, Any, int], list[e.QueueEvent] | Rejection | Answer]] = {
    c.UpdateQueue: _update,
    c.EnqueueTask: _enqueue,
    c.WithdrawTask: _withdraw,
    c.ReleaseTask: _release,
    c.SetCredits: _set_credits,
    c.RemoveWorker: _remove_worker,
    c.ExpireLease: _expire,
    c.DispatchTasks: _dispatch,
    c.QueryQueue: _query,
}


def decide(
    stream: str, state: QueueState | None, command: c.QueueCommand, now: int
) -> list[e.QueueEvent] | Rejection | Answer:
    """What a command means for a queue at time `now` (ms).

    A queue that does not exist comes into being with its defaults when a worker serves it or a task of an
    accepted job arrives: an accepted job is never without a queue.
    """
    if state is None and not is_name(split_stream(stream)[2]):
        return invalid_name("name", split_stream(stream)[2])
    if isinstance(command, c.CreateQueue):
        if state is None:
            return [_created(now, command)]
        return Rejection(
            code=Code.ALREADY_EXISTS,
            message=f"Queue '{split_stream(stream)[2]}' exists; use updateQueue.",
            field="name",
        )
    if state is None:
        return _decide_absent(stream, command, now)
    return _DECIDE[type(command)](state, command, now)


def _decide_absent(stream: str, command: c.QueueCommand, now: int) -> list[e.QueueEvent] | Rejection:
    name = split_stream(stream)[2]
    rest: list[e.QueueEvent] | Rejection
    if isinstance(command, c.EnqueueTask):
        rest = _enqueue(None, command, now)
    elif isinstance(command, c.SetCredits):
        rest = _set_credits(None, command, now)
    else:
        return Rejection(
            code=Code.NOT_FOUND_OR_EXPIRED, message=f"No queue '{name}'; create it first.", field="name", value=name
        )
    return rest if isinstance(rest, Rejection) else [_created(now, command), *rest]


#: After these a slot or a task may have become available.
DISPATCH_AFTER = (e.TaskEnqueued, e.TaskReleased, e.CreditsSet)


# -- react ------------------------------------------------------------------------------------------------------------


def react(state: QueueState, event: e.QueueEvent) -> list[Effect]:
    """What follows from an event; `state` is the queue after it. Dispatch is the owner's, once per batch."""
    if isinstance(event, e.TaskAssigned):
        return [ToWorker(_run_task(state, event))]
    if isinstance(event, e.TaskCancelSent):
        cancel = CancelTask(
            worker=event.worker,
            incarnation=event.incarnation,
            job=event.job,
            task=event.task,
            assignment=event.assignment,
        )
        return [ToWorker(cancel)]
    if isinstance(event, e.TaskRemoved):
        withdrawn = jc.TaskWithdrawn(task=event.task, assignment=event.assignment)
        return [FollowUp(event.job, withdrawn)]
    if isinstance(event, e.WorkerLost):
        return _lost(state, event)
    return []


def _run_task(state: QueueState, event: e.TaskAssigned) -> RunTask:
    task = state.lanes.tasks[task_key(event.job, event.task)]
    return _run(
        task,
        worker=event.worker,
        incarnation=event.incarnation,
        queue=split_stream(state.queue.id)[2],
        assigned_at_ms=event.assigned_at_ms,
    )


def _lost(state: QueueState, event: e.WorkerLost) -> list[Effect]:
    effects: list[Effect] = []
    for key in event.lost:
        task = state.lanes.tasks[key]
        body = jc.AttemptLost(
            task=task.task, assignment=task.assignment, worker=event.worker, incarnation=event.incarnation
        )
        effects.append(FollowUp(task.job, body))
    if any(not state.lanes.tasks[key].lost for key in state.lanes.held_by(event.incarnation)):
        again = c.ExpireLease(worker=event.worker, incarnation=event.incarnation)
        effects.append(FollowUp(state.queue.id, again))
    return effects
