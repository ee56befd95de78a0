"""What a batch sends may be seen by the relay after its commit only."""

from __future__ import annotations

import asyncio

from memory_owner import MemoryOwner, jobs_on, submit, wait_for

from jobledger.domain.identity import partition_of, queue_stream
from jobledger.processors.core.plan import Plan

PARTITIONS = 2
QUEUES = partition_of(queue_stream("default", "default"), PARTITIONS)
JOBS = 1 - QUEUES


async def test_the_relay_sees_no_entry_of_a_transaction_that_is_not_committed() -> None:
    """An aborted plan leaves nothing behind, and what is decided after it takes the number that was free."""
    first, second = jobs_on(JOBS, PARTITIONS, 2)
    async with MemoryOwner(JOBS, PARTITIONS) as one:
        under_way, let_go = asyncio.Event(), asyncio.Event()

        async def abort(plan: Plan) -> None:
            under_way.set()
            await let_go.wait()
            one.log.before_commit = None
            raise RuntimeError("transaction aborted by the broker")

        one.log.before_commit = abort
        one.feed(submit(first))
        await under_way.wait()
        assert one.owner.unacknowledged() == [], "a task would be sent that no event in the log explains"
        one.feed(submit(second))
        let_go.set()
        await wait_for(lambda: second in one.log.outcomes)
        assert [entry.number for _, entry in one.owner.unacknowledged()] == [1]


async def test_an_arrival_is_not_forgotten_by_a_transaction_that_fails_or_came_before_it() -> None:
    """The tombstone of an entry stands in the first transaction that is decided after the arrival, and counts once."""
    first, second, third = jobs_on(JOBS, PARTITIONS, 3)
    async with MemoryOwner(JOBS, PARTITIONS) as one:
        one.feed(submit(first))
        await one.outcome(first)
        ((key, _),) = one.owner.unacknowledged()

        async def arrive_meanwhile(plan: Plan) -> None:
            one.log.before_commit = None
            one.owner.acknowledge(key)

        one.log.before_commit = arrive_meanwhile
        one.feed(submit(second))
        await one.outcome(second)
        assert key in one.log.state and one.machine.acknowledged == {key}
        one.feed(submit(third))
        await one.outcome(third)
        assert key not in one.log.state and one.machine.acknowledged == set()
