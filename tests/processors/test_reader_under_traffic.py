"""Reading partitions that are written to all the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import OFFSET_BEGINNING, Message
from log_cell import LogCell, until

from jobledger.eventlog.clients import consumer_config
from jobledger.eventlog.reader import LogReader
from jobledger.schemas.topics import Topic

pytestmark = [pytest.mark.kafka]


@asynccontextmanager
async def reading(cell: LogCell, seen: list[bytes]) -> AsyncIterator[LogReader]:
    async def deliver(batch: list[Message]) -> None:
        await asyncio.sleep(0.005)
        seen.extend(message.value() or b"" for message in batch)  # type: ignore[arg-type]

    config = consumer_config(cell.kafka, "reader", f"{cell.cell}-reader")
    reader = LogReader(config, cell.topic(Topic.COMMANDS), dict.fromkeys(range(4), OFFSET_BEGINNING), deliver)
    await reader.start()
    yield reader
    await reader.stop()


async def test_a_reader_catches_up_although_more_keeps_coming(log_cell: LogCell) -> None:
    """It does not wait for a moment in which all partitions are quiet, and says so only when all is delivered."""
    sent = 0

    async def write() -> None:
        nonlocal sent
        while True:
            await asyncio.gather(*(log_cell.raw(Topic.COMMANDS, p, b"%d" % sent) for p in range(4)))
            sent += 1
            await asyncio.sleep(0.02)

    writer = asyncio.create_task(write())
    await until(lambda: sent > 20)
    seen: list[bytes] = []
    before = sent
    async with reading(log_cell, seen) as reader:
        await until(lambda: reader.caught_up, 3)
        assert all(seen.count(b"%d" % number) == 4 for number in range(before - 1))
    writer.cancel()


async def test_a_reader_of_empty_partitions_has_caught_up(log_cell: LogCell) -> None:
    async with reading(log_cell, []) as reader:
        await until(lambda: reader.caught_up, 5)
