"""Whole schedulers in one group: where a partition is read from, and what a rebalance leaves alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from log_cell import LogCell, submit, until

from jobledger.processors.log_dirs import replica_sizes, who_asks
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.topics import Topic

pytestmark = [pytest.mark.kafka]


async def send_some(cell: LogCell, partition: int, count: int) -> list[str]:
    queue = cell.queue_on(partition)
    return [await cell.send(cell.job_on(partition), submit(queue=queue)) for _ in range(count)]


async def decided_once(cell: LogCell, commands: list[str]) -> None:
    for command in commands:
        await cell.outcome(command)
    await asyncio.sleep(0.5)
    assert all([o.status for o in cell.outcomes[c]] == [OutcomeStatus.ACCEPTED] for c in commands)
    assert not any(o.duplicate for c in commands for o in cell.outcomes[c])


@pytest.mark.scenario("a scheduler serves")
async def test_the_group_s_offset_decides_nothing(log_cell: LogCell, start_scheduler: Any, stop: Any) -> None:
    """Behind the checkpoint nothing is decided twice; ahead of it nothing is left out, nor in what comes later."""
    first = await start_scheduler("scheduler-1")
    sent = {p: await send_some(log_cell, p, 10) for p in range(4)}
    for p in range(4):
        await decided_once(log_cell, sent[p])
    await stop(first)
    assert log_cell.group_offset(0) > 0, "no offset was committed: the test would prove nothing"
    for p in range(4):
        sent[p] += await send_some(log_cell, p, 10)
    log_cell.group_offset(0, 0)
    log_cell.group_offset(1, 3)
    log_cell.group_offset(2, 17)
    log_cell.group_offset(3, 20)
    again = await start_scheduler("scheduler-1")
    for p in range(4):
        await decided_once(log_cell, sent[p][:19])
        sent[p] += await send_some(log_cell, p, 5)
        await decided_once(log_cell, sent[p])
        assert await asyncio.to_thread(log_cell.differences, p) == []
    await the_log_below_the_queues_is_measured(again, log_cell)
    await stop(again)
    assert again.services.log_gauges._cluster._admin is None, "its client has gone with it"


async def the_log_below_the_queues_is_measured(scheduler: Any, cell: LogCell) -> None:
    """By the real broker: nothing waits, all is well, and the only replica is not behind itself."""
    services = scheduler.services
    told = await asyncio.to_thread(AdminClient(cell.kafka.client_config()).list_topics, timeout=10)
    brokers = {broker.id: (broker.host, broker.port) for broker in told.brokers.values()}
    places = [(cell.topic(Topic.EVENTS), p) for p in range(4)]
    sizes = await replica_sizes(who_asks(cell.kafka, "t"), brokers, places)
    assert all(size > 0 for of in sizes.values() for size in of.values())
    assert {partition for _, partition in sizes} == {0, 1, 2, 3}
    await services.log_gauges.look()
    text = services.gauges._metrics.render()[0].decode()
    assert "jobledger_takeover_seconds_count 4.0" in text
    for partition in range(4):
        name = cell.queue_on(partition)
        group = f'consumer_group="{cell.cell}-scheduler"'
        assert f'queue_consumer_lag_messages{{{group},queue_name="{name}"}} 0.0' in text
        assert f'queue_partitions_healthy{{queue_name="{name}"}} 1.0' in text
        assert f'queue_replication_lag_bytes{{queue_name="{name}"}} 0.0' in text


async def test_a_partition_that_stays_keeps_its_owner(log_cell: LogCell, start_scheduler: Any, stop: Any) -> None:
    """Another scheduler joins and leaves: what is not moved keeps producer and memory, and goes on from its place."""
    first = await start_scheduler("scheduler-1")
    sent = [c for p in range(4) for c in await send_some(log_cell, p, 5)]
    await decided_once(log_cell, sent)
    before = {p: (owner, owner._machine, owner._log._producer) for p, owner in first.owners.owners.items()}
    assert set(before) == {0, 1, 2, 3}
    second = await start_scheduler("scheduler-2")
    await until(lambda: len(first.owners.owners) == 2 and len(second.owners.owners) == 2)
    kept = set(first.owners.owners)
    sent = [c for p in range(4) for c in await send_some(log_cell, p, 5)]
    await decided_once(log_cell, sent)
    await stop(second)
    await until(lambda: len(first.owners.owners) == 4)
    sent = [c for p in range(4) for c in await send_some(log_cell, p, 5)]
    await decided_once(log_cell, sent)
    after = {p: (owner, owner._machine, owner._log._producer) for p, owner in first.owners.owners.items()}
    for p in range(4):
        same = [one is other for one, other in zip(before[p], after[p], strict=True)]
        assert same == [p in kept] * 3, f"partition {p}"
        assert await asyncio.to_thread(log_cell.differences, p, after[p][1]) == []


async def test_schedulers_without_a_configured_name_share_the_partitions(
    log_cell: LogCell, start_scheduler: Any
) -> None:
    """They are members of their own: neither takes the other's place, as two of one name would for ever."""
    first, second = await start_scheduler(""), await start_scheduler("")
    await until(lambda: len(first.owners.owners) == 2 and len(second.owners.owners) == 2)
    assert not set(first.owners.owners) & set(second.owners.owners)
    assert thread_of(first)._consumer._group_instance_id is None
    third = await start_scheduler("scheduler-3")
    assert thread_of(third)._consumer._group_instance_id == "scheduler-3"


def thread_of(scheduler: Any) -> Any:
    return scheduler.app.consumer._thread


def end_agent(scheduler: Any) -> None:
    """What a message does that the stream cannot take."""
    scheduler.owners.offer = None


def end_thread(scheduler: Any) -> None:
    thread = thread_of(scheduler)
    thread.thread_loop.call_soon_threadsafe(thread.thread_loop.stop)


def end_membership(scheduler: Any) -> None:
    thread = thread_of(scheduler)
    thread.thread_loop.call_soon_threadsafe(thread._consumer._coordinator._coordination_task.cancel)


def end_fetching(scheduler: Any) -> None:
    thread = thread_of(scheduler)
    thread.thread_loop.call_soon_threadsafe(thread._consumer._fetcher._fetch_task.cancel)


@pytest.mark.filterwarnings("ignore")  # what was broken on purpose complains when it is collected
@pytest.mark.parametrize("end", [end_agent, end_thread, end_membership, end_fetching])
async def test_a_part_of_faust_that_ends_ends_the_scheduler(
    end: Any, log_cell: LogCell, start_scheduler: Any, stop: Any
) -> None:
    """Without it no command comes in, or others cannot have the partitions: the process must not stay as it is."""
    scheduler = await start_scheduler("scheduler-1")
    watch = asyncio.ensure_future(scheduler.wait())
    await asyncio.sleep(1)
    assert not watch.done()
    end(scheduler)
    await log_cell.send(log_cell.job_on(0), submit())
    with pytest.raises(Exception, match=r"has ended by itself|not callable"):
        await asyncio.wait_for(watch, 20)
    begun = time.monotonic()
    await stop(scheduler)
    assert time.monotonic() - begun < 15


async def test_a_clock_that_is_wrong_owns_nothing(log_cell: LogCell) -> None:
    """Over half a second from the broker's: the process says so and ends, so that others get its partitions."""
    environment = {
        **os.environ,
        "JOBLEDGER_CELL": log_cell.cell,
        "JOBLEDGER_PARTITIONS": "4",
        "JOBLEDGER_DEV": "1",
        "JOBLEDGER_INSTANCE_ID": "scheduler-1",
        "JOBLEDGER_HEALTH_PORT": "0",
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": log_cell.kafka.bootstrap_servers,
        "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
        "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
        "JOBLEDGER_CLOCK_OFFSET_MS": "-5000",
    }
    command = [sys.executable, "-m", "jobledger.cli", "scheduler"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ms from the broker's, more than 500 ms" in done.stdout
    assert all(not log_cell.records(Topic.STATE, p) for p in range(4))


async def test_a_clock_within_bounds_owns(log_cell: LogCell, start_scheduler: Any) -> None:
    """A third of a second is within the bound."""
    scheduler = await start_scheduler("scheduler-1", clock_offset_ms=-300)
    assert len(scheduler.owners.owners) == 4
