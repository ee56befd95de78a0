"""No turn of the loop that the owners share takes long, whatever waits for one of them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest
from memory_owner import NOW, MemoryLog, MemoryOwner, command, credits, submit, wait_for
from memory_owner import job as new_job

from jobledger.domain.identity import queue_stream
from jobledger.domain.job import commands as jc
from jobledger.processors.turns import MAX_TURN_SECONDS, TurnWatch
from jobledger.schemas.commands import CommandRecord, encode_record

pytestmark = pytest.mark.usefixtures("no_collections")
QUEUE = queue_stream("default", "default")


@pytest.fixture
def no_collections() -> Iterator[None]:
    """A scheduler sets the thresholds of the collector by itself; here all the records are kept in memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def record(number: int, count: int, payload: int = 180) -> bytes:
    text = '{"a":"' + "x" * payload + '"}'
    jobs = [new_job(f"0190aaaa-{number:04x}-4000-8000-{n:012x}") for n in range(count)]
    return encode_record(CommandRecord(commands=[submit(job, payload=text) for job in jobs]))


async def test_the_watch_finds_a_turn_that_holds_the_loop() -> None:
    """Work counts, waiting does not; nothing is watched any more afterwards."""

    def busy() -> None:
        until = time.thread_time() + 0.08
        while time.thread_time() < until:
            pass

    with TurnWatch() as watch:
        await asyncio.sleep(0.08)
        assert not watch.long
        asyncio.get_running_loop().call_soon(busy)
        await asyncio.sleep(0.01)
    assert len(watch.long) == 1 and "busy" in watch.long[0].what and watch.longest.seconds >= 0.08
    asyncio.get_running_loop().call_soon(busy)
    await asyncio.sleep(0.01)
    assert len(watch.long) == 1


@pytest.mark.scenario("a loop stalls", emits=("loop_turn_long",))
async def test_the_watch_of_dev_stops_when_told() -> None:
    watch = TurnWatch.logging()
    await watch.start()
    for _ in range(3):
        asyncio.get_running_loop().call_soon(time.sleep, 0.06)
        await asyncio.sleep(0.001)
    await watch.stop()
    await watch.stop()
    assert len(watch.long) >= 3


async def test_a_backlog_read_from_the_log_holds_the_loop_for_no_turn() -> None:
    """Records of 500 commands that the feed has dropped, and jobs that go through the queue to a worker."""
    log = MemoryLog()
    log.commands = [encode_record(CommandRecord(commands=[credits(QUEUE, 500)]))]
    log.commands += [record(number, 500) for number in range(30)]
    one = MemoryOwner(log=log)
    with TurnWatch() as watch:
        async with one:
            await wait_for(lambda: one.machine.checkpoint.offset == len(log.commands), 120)
            await wait_for(lambda: not one.machine.unfinished)
    assert len(one.log.outcomes) == 15_000
    assert watch.longest.seconds < MAX_TURN_SECONDS, watch.long


async def test_ended_jobs_and_their_stubs_hold_the_loop_for_no_turn() -> None:
    """Each batch writes snapshots, stubs and what follows."""

    log = MemoryLog()
    log.commands = [record(0, 500)]
    jobs = [new_job(f"0190aaaa-0000-4000-8000-{n:012x}") for n in range(500)]
    later = [submit(new_job(job), due_at_ms=NOW + 10**7) for job in jobs]
    cancels = [command(new_job(job), jc.CancelJob(), f"cancel/{job}") for job in jobs]
    log.commands += [encode_record(CommandRecord(commands=both)) for both in (later, cancels)]
    one = MemoryOwner(log=log)
    with TurnWatch() as watch:
        async with one:
            await wait_for(lambda: one.machine.checkpoint.offset == len(log.commands), 120)
            await wait_for(lambda: not one.machine.unfinished)
    assert watch.longest.seconds < MAX_TURN_SECONDS, watch.long


async def test_a_record_of_the_largest_size_holds_the_loop_for_no_turn() -> None:
    """A record that nobody of ours writes: thousands of commands in two megabytes, the last of which is broken."""
    log = MemoryLog()
    whole = record(1, 4_800, payload=100)
    assert 1_500_000 < len(whole) < 2_097_152
    log.commands = [whole, whole[:-2], record(2, 2_000, payload=100)[:-3] + b"}]}", record(3, 1)]
    one = MemoryOwner(log=log)
    with TurnWatch() as watch:
        async with one:
            await wait_for(lambda: one.machine.checkpoint.offset == len(log.commands), 120)
    assert watch.longest.seconds < MAX_TURN_SECONDS, watch.long
