"""Reads the log from a position that is older than what the tail keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from confluent_kafka import Message

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.positions import Vector
from jobledger.eventlog.reader import LogReader
from jobledger.graphql.offsets import probing, sequence_of

#: How many subscribers may read the log at once; the others wait for their turn.
MAX_AT_ONCE = 4
MAX_BATCHES_WAITING = 2


class CatchUp:
    """Readers of single subscribers, bounded in number."""

    def __init__(self, config: ClientConfig, topic: str) -> None:
        self._config = config
        self._topic = topic
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def read(self, behind: Vector) -> AsyncGenerator[list[tuple[int, int, bytes, bytes]], None]:
        """Batches of (partition, seq, key, value) behind the given numbers, until the caller stops.

        The reader waits while its batches are not taken.
        """
        batches: asyncio.Queue[list[Message]] = asyncio.Queue(MAX_BATCHES_WAITING)
        async with self._turns:
            starts = await asyncio.to_thread(self._locate, behind)
            reader = LogReader(self._config, self._topic, starts, batches.put)
            taking = None
            try:
                await reader.start()
                ended = asyncio.ensure_future(reader.wait())
                while True:
                    taking = asyncio.ensure_future(batches.get())
                    await asyncio.wait([taking, ended], return_when=asyncio.FIRST_COMPLETED)
                    if not taking.done():
                        await ended
                        return
                    yield _events(taking.result())
            finally:
                if taking is not None:
                    taking.cancel()
                await self._stop(reader, batches)

    @staticmethod
    async def _stop(reader: LogReader, batches: asyncio.Queue[list[Message]]) -> None:
        """Its thread may wait for room in the queue: make room until it has ended."""
        stopping = asyncio.ensure_future(reader.stop())
        while not stopping.done():
            while not batches.empty():
                batches.get_nowait()
            await asyncio.wait([stopping], timeout=0.01)

    def _locate(self, behind: Vector) -> dict[int, int]:
        with probing(self._config, self._topic) as probe:
            return {partition: probe.locate(partition, seq) for partition, seq in behind.items()}


def _events(batch: list[Message]) -> list[tuple[int, int, bytes, bytes]]:
    found = []
    for message in batch:
        key, value = message.key() or b"", message.value() or b""
        key = key.encode() if isinstance(key, str) else key
        value = value.encode() if isinstance(value, str) else value
        found.append((message.partition() or 0, sequence_of(message), key, value))
    return found
