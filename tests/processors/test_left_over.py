"""What a batch has no room for: bounded in the checkpoint, in order, and nothing overtakes it."""

from __future__ import annotations

import pytest
from memory_owner import NOW, Decider, command, credits, expire, jobs_on, submit
from memory_owner import job as new_job

from jobledger.domain.identity import partition_of, queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.events import JobDeadLettered, TaskLost
from jobledger.domain.job.state import JobStatus
from jobledger.domain.queue.events import TaskAssigned
from jobledger.domain.values import SYSTEM, Opaque
from jobledger.processors.core.checkpoint import Checkpoint, Pending
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.pending import MAX_INLINE_BYTES, PendingQueue, read_part
from jobledger.processors.core.state_records import CHECKPOINT_KEY, decode_state, encode_state
from jobledger.schemas.commands import Command

QUEUE = queue_stream("default", "default")
KIB = 1024


def spilled(one: Decider) -> list[bytes]:
    return [key for key in one.state if key.startswith(b"p|")]


def held_by_a_worker(count: int, kib: int, **given: object) -> Decider:
    """A partition whose queue has handed tasks with payloads of `kib` KiB to one worker that never started them."""
    one = Decider(**given)  # type: ignore[arg-type]
    one.feed(credits(QUEUE, count))
    for stream in jobs_on(0, 1, count):
        one.feed(submit(stream, payload='"' + "x" * (kib * KIB - 2) + '"'))
        one.settle()
    assert len(one.machine.streams["queue"][QUEUE].lanes.held_by("i1")) == count
    return one


@pytest.mark.parametrize("room", [None, 8, 40], ids=["full batches", "8 looks", "40 looks"])
def test_a_lost_worker_with_large_unstarted_tasks_is_expired(room: int | None) -> None:
    """Each of them goes back into the queue with its payload; that is far more than a checkpoint can hold."""
    one = held_by_a_worker(40, 250)
    one.incoming.internal.append(expire(QUEUE))
    most = 0
    for _ in range(2_000):
        looks = iter([False] * room) if room else None
        one.turn(over_time=(lambda looks=looks: next(looks, True)) if looks else (lambda: False))
        most = max(most, len(spilled(one)))
        assert len(one.state[CHECKPOINT_KEY]) < 2 * MAX_INLINE_BYTES
        rebuilt = one.rebuilt()
        assert list(rebuilt.pending) == list(one.machine.pending)
        if not one.machine.unfinished:
            break
    assert not one.machine.unfinished and not spilled(one)
    assert "i1" not in one.machine.streams["queue"][QUEUE].workers
    assert len(one.machine.streams["queue"][QUEUE].lanes.tasks) == 40
    assert most > 0 or room == 8, "it did not fit into the checkpoint"


def test_a_lost_worker_with_thousands_of_tasks_is_expired_part_by_part() -> None:
    """No transaction is larger than a batch, and no task is lost twice or forgotten."""
    count = 3_000
    one = Decider()
    one.feed(credits(QUEUE, count))
    streams = jobs_on(0, 1, count)
    for start in range(0, count, 250):
        one.feed(*(submit(stream) for stream in streams[start : start + 250]))
    one.settle()
    assert len(one.machine.streams["queue"][QUEUE].lanes.held_by("i1")) == count
    before = len(one.batches)
    one.incoming.internal.append(expire(QUEUE))
    one.settle()
    lost = [record.originator_id for record in one.records if isinstance(record.data, TaskLost)]
    assert sorted(lost) == sorted(streams)
    assert max(len(plan.events) for plan in one.batches[before:]) <= one.limits.records + 500
    assert len(one.batches) - before >= 2
    assert not spilled(one) and "i1" not in one.machine.streams["queue"][QUEUE].workers
    assert not any(isinstance(record.data, JobDeadLettered) for record in one.records)


def test_what_is_left_over_keeps_its_order_through_records_and_takeovers() -> None:
    """Taken a few at a time, with more added behind, and read back from `state` after each step."""
    checkpoint, state = Checkpoint(cell="c", partitions=1), {}
    queue = PendingQueue(checkpoint, {})
    expected: list[str] = []
    seen: list[str] = []
    number = 0
    for step in range(60):
        for _ in range(min(len(queue), step % 7 * 5)):
            seen.append(queue.take().command.id)
        new = []
        for _ in range(40 if step < 40 and step % 3 == 0 else step % 2):
            number += 1
            body = jc.CancelJob(reason=Opaque("x" * (number % 5 * 3_000)))
            new.append(Pending(Command(id=str(number), stream="job:default:a", actor=SYSTEM, body=body), 1))
            expected.append(str(number))
        plan: dict[bytes, bytes | None] = {}
        queue.write(new, checkpoint, plan)
        for key, value in plan.items():
            if value is None:
                del state[key]
            else:
                state[key] = value
        written = decode_state(encode_state(checkpoint))
        parts = {int(key[2:]): read_part(value) for key, value in state.items()}
        queue = PendingQueue(written, parts)
        checkpoint = written
    seen += [item.command.id for item in queue]
    assert seen == expected and number > 500


def test_a_checkpoint_of_an_older_release_is_read() -> None:
    """It has everything that was left over in itself, however much."""
    one = Decider()
    one.feed(*(submit(stream) for stream in jobs_on(0, 1, 3)))
    one.turn()
    body = jc.CancelJob()
    old = decode_state(one.state[CHECKPOINT_KEY])
    old.pending = [
        Pending(command(job, body, f"cancel/{job}", SYSTEM), 0) for job in jobs_on(0, 1, 3) for _ in range(60)
    ]
    raw = encode_state(old).replace(b'"part_last":0,', b"")
    assert b"part_" not in raw and b"ahead" not in raw
    again = Decider(state={**one.state, CHECKPOINT_KEY: raw})
    assert len(again.machine.pending) == 180
    again.settle()
    assert {job.status for stream in jobs_on(0, 1, 3) if (job := again.machine.load(stream))} <= {JobStatus.CANCELLED}


@pytest.mark.parametrize("commands", [3, 7, 500])
def test_nothing_overtakes_what_goes_too_deep(commands: int) -> None:
    """A cancel in the batch in which an enqueue had to wait at the bound of a chain's depth finds the task."""
    one = Decider(limits=Limits(commands=commands))
    count = 1_700
    one.limits = Limits()
    one.machine.limits = one.limits
    one.feed(credits(QUEUE, count))
    streams = [new_job(f"d{number}") for number in range(count)]
    for start in range(0, count, 200):
        one.feed(*(submit(stream) for stream in streams[start : start + 200]))
    one.settle()
    last = streams[1_650]
    unbounded = Limits(commands=10**6, records=10**6, bytes=10**9)
    one.machine.limits = unbounded if commands == 500 else Limits(commands=commands)
    one.incoming.internal.append(expire(QUEUE))
    one.turn()
    one.feed(command(last, jc.CancelJob(), "cancel"))
    one.settle()
    one.machine.limits = Limits()
    job = one.machine.load(last)
    assert job is None or job.status is JobStatus.CANCELLED  # type: ignore[union-attr]
    one.feed(credits(QUEUE, count, worker="w2", incarnation="i2"))
    before = len(one.records)
    one.settle()
    assigned = [r.data.job for r in one.records[before:] if isinstance(r.data, TaskAssigned)]
    assert last not in assigned and len(assigned) == count - 1


def test_a_cancel_behind_a_deferred_enqueue_in_the_same_batch_holds() -> None:
    """The chain of a lost worker's expiry reaches its bound while the cancel stands next in the log."""
    one = Decider()
    count = 1_700
    one.feed(credits(QUEUE, count))
    streams = [new_job(f"d{number}") for number in range(count)]
    for start in range(0, count, 200):
        one.feed(*(submit(stream) for stream in streams[start : start + 200]))
    one.settle()
    last = streams[1_550]
    one.machine.limits = Limits(commands=10**6, records=10**6, bytes=10**9)
    one.machine.pending.write([Pending(expire(QUEUE), 0)], one.machine.checkpoint, {})
    one.feed(command(last, jc.CancelJob(), "cancel"))
    one.settle()
    one.machine.limits = Limits()
    one.feed(credits(QUEUE, count, worker="w2", incarnation="i2"))
    before = len(one.records)
    one.settle()
    assert last not in [r.data.job for r in one.records[before:] if isinstance(r.data, TaskAssigned)]
    assert one.machine.load(last) is None, "cancelled for good"


# -- a share of each batch --------------------------------------------------------------------------------------------


def test_timers_and_leases_run_in_every_batch_of_a_backlog() -> None:
    """Also while each batch is filled by what the one before had left over."""
    one = Decider()
    one.feed(credits(QUEUE, 2))
    one.feed(*(submit(new_job(f"due{n}"), due_at_ms=NOW + 1_000) for n in range(100)))
    one.settle()
    for record in range(40):
        one.feed(*(submit(new_job(f"b{record}-{n}")) for n in range(100)))
    one.incoming.internal.append(expire(QUEUE))
    fired = []
    while one.incoming.records:
        fired.append(one.turn(NOW + 2_000).timers_fired)
        assert not one.incoming.internal, "the lease was decided in the first batch"
    assert len(fired) > 4 and fired[:4] == [25, 25, 25, 25]


def test_a_squeezed_timer_does_not_break_the_bound_of_a_batch() -> None:
    """Large payloads: one is always started, not twenty-five."""
    one = Decider(limits=Limits(commands=4))
    for n in range(20):
        one.feed(submit(new_job(f"due{n}"), due_at_ms=NOW + 1_000, payload='"' + "x" * 250 * KIB + '"'))
    one.settle()
    one.feed(*(submit(new_job(f"b{n}")) for n in range(400)))
    plan = one.turn(NOW + 2_000)
    assert 1 <= plan.timers_fired <= 2


# -- timers -----------------------------------------------------------------------------------------------------------


def test_timers_of_cancelled_jobs_go_at_once() -> None:
    """A job that is submitted for next year and cancelled leaves nothing behind, in memory or rebuilt."""
    one = Decider()
    for turn in range(20):
        streams = [new_job(f"c{turn}-{n}") for n in range(50)]
        one.feed(*(submit(stream, due_at_ms=NOW + 10**9 + n) for n, stream in enumerate(streams)))
        one.feed(*(command(stream, jc.CancelJob(), f"cancel/{stream}") for stream in streams))
        one.settle()
        assert len(one.machine.timers) == 0 and one.machine.timers.held <= 1_001


def test_overdue_timers_are_counted_without_looking_at_each() -> None:
    one = Decider()
    one.feed(*(submit(new_job(f"d{n}"), due_at_ms=NOW + 1_000 + n) for n in range(300)))
    one.settle()
    assert one.machine.due_before(NOW) == []
    assert sorted(one.machine.due_before(NOW + 1_100)) == list(range(NOW + 1_000, NOW + 1_100))
    assert sorted(one.rebuilt().timers) == sorted(one.machine.timers)


def test_a_queue_of_another_partition_gets_what_goes_too_deep_in_order() -> None:
    """Partitions do not change what is first in, first out."""
    partitions = 2
    at = partition_of(QUEUE, partitions)
    one = Decider(at, partitions)
    one.feed(*(submit(stream) for stream in jobs_on(at, partitions, 30)))
    one.settle()
    assert [task.number for task in one.machine.streams["queue"][QUEUE].lanes.tasks.values()] == list(range(1, 31))
