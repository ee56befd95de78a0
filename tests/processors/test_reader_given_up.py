"""A reader that is given up in the middle of its start."""

from __future__ import annotations

import asyncio
import threading

import pytest
from confluent_kafka import OFFSET_END, Message

from jobledger.eventlog.partitions import PartitionReader
from jobledger.eventlog.reader import LogReader


async def test_a_start_that_is_given_up_lets_go_of_its_client_after_its_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One thread at a time has the client: it is not closed while a question to the broker is under way."""
    asked, answered, closed = threading.Event(), threading.Event(), threading.Event()

    def bounds(self: PartitionReader, topic: str, partition: int) -> tuple[int, int]:
        asked.set()
        answered.wait(10)
        return 0, 0

    monkeypatch.setattr(PartitionReader, "bounds", bounds)
    monkeypatch.setattr(PartitionReader, "close", lambda self: closed.set())
    reader = LogReader(
        {"bootstrap.servers": "127.0.0.1:9", "group.id": "g", "log_level": 0}, "t", {0: OFFSET_END}, deliver
    )
    starting = asyncio.create_task(reader.start())
    await asyncio.to_thread(asked.wait, 10)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not closed.is_set()
    answered.set()
    assert await asyncio.to_thread(closed.wait, 10)


async def deliver(batch: list[Message]) -> None:
    raise AssertionError("nothing is read")
