"""The index of a queue's tasks: what waits, in which order, and what each worker holds."""

from __future__ import annotations

import random

import pytest

from jobledger.domain.queue.state import Lanes, QueueTask
from jobledger.domain.values import Opaque


def task(number: int, handler: str = "work", priority: int = 3) -> QueueTask:
    return QueueTask(
        job=f"job:default:j{number}",
        task="main",
        assignment=1,
        number=number,
        execution_id="x",
        attempt=1,
        handler=handler,
        priority=priority,
        payload=Opaque("x" * number),
        due_at_ms=5,
        ready_at_ms=100 + number,
    )


def index(lanes: Lanes) -> tuple[object, ...]:
    """All there is, with the order within each lane."""
    waiting = {
        priority: {handler: list(lane.items()) for handler, lane in groups.items()}
        for priority, groups in lanes.waiting.items()
    }
    return lanes.tasks, waiting, lanes.waiting_bytes, {worker: set(held) for worker, held in lanes.held.items()}


def test_lanes_of_nothing_are_empty() -> None:
    """A lane for each of the five priorities, nothing in any."""
    for lanes in (Lanes(), Lanes({})):
        assert index(lanes) == ({}, {1: {}, 2: {}, 3: {}, 4: {}, 5: {}}, 0, {})
        assert lanes.oldest_ready_ms() is None


def test_a_task_waits_is_held_and_goes() -> None:
    """It counts as waiting until a worker has it, as held until it goes, and leaves nothing behind."""
    lanes = Lanes({one.key: one for one in (task(7), task(3))})
    assert (lanes.depth(3), lanes.depth(1), lanes.waiting_bytes, lanes.oldest_ready_ms()) == (2, 0, 10, 103)
    lanes.assign("job:default:j3/main", "w", "w.1", 9)
    held = lanes.tasks["job:default:j3/main"]
    assert (held.worker, held.incarnation, held.assigned_at_ms) == ("w", "w.1", 9)
    assert (lanes.depth(3), lanes.waiting_bytes, list(lanes.held_by("w.1"))) == (1, 7, ["job:default:j3/main"])
    assert (lanes.oldest_ready_ms(), lanes.held_by("v.1")) == (107, {})
    for key in list(lanes.tasks):
        lanes.remove(key)
    assert index(lanes) == index(Lanes())


@pytest.mark.parametrize("seed", range(20))
def test_lanes_are_the_same_from_the_stored_tasks(seed: int) -> None:
    """However tasks came, went out and ended: a new owner that reads the stored ones hands out in the same order."""
    chance = random.Random(seed)
    lanes = Lanes()
    for number in range(1, 60):
        lanes.add(task(number, chance.choice(("work", "mail")), chance.randint(1, 5)))
        waiting = [key for key, one in lanes.tasks.items() if one.incarnation is None]
        if waiting and chance.random() < 0.6:
            worker = chance.choice(("w", "v"))
            lanes.assign(chance.choice(waiting), worker, f"{worker}.1", number)
        if chance.random() < 0.5:
            lanes.remove(chance.choice(list(lanes.tasks)))
        stored = list(lanes.tasks.values())
        chance.shuffle(stored)
        assert index(Lanes({one.key: one for one in stored})) == index(lanes)
