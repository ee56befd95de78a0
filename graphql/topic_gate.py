"""Nothing is taken before the topics have shown the number of partitions that this process was told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from confluent_kafka import KafkaException

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.partition_counts import check_partition_counts
from jobledger.eventlog.topics import TopicMissingError
from jobledger.schemas.topics import Topic
from jobledger.telemetry.service import TaskService
from jobledger.telemetry.waiting import tries_every

START_SECONDS = 5.0
PAUSE_SECONDS = 0.5


class TopicGate(TaskService):
    """Starts before anything is sent. While the brokers are away, or topics not made yet, nothing is sent.

    A command on the wrong partition is not rejected where it arrives, it is lost to whoever waits for it: so no
    command leaves before the topics have been seen.
    """

    name = "topic-gate"

    def __init__(self, config: ClientConfig, cell: str, topics: Sequence[Topic], partitions: int) -> None:
        self._config = config
        self._cell = cell
        self._topics = topics
        self._partitions = partitions
        self._seen = asyncio.Event()

    async def opened(self, seconds: float) -> bool:
        """Wait until all topics have been seen and have the right number of partitions; False when it takes longer."""
        if not self._seen.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._seen.wait(), seconds)
        return self._seen.is_set()

    async def start(self) -> None:
        """Look; goes on looking when there is no answer yet. Raises PartitionCountError."""
        task = self._begin(self._look_until_seen(), "topic-gate")
        seen = asyncio.ensure_future(self._seen.wait())
        await asyncio.wait([task, seen], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        seen.cancel()
        if task.done():
            task.result()

    async def _look_until_seen(self) -> None:
        async for attempt in tries_every(PAUSE_SECONDS, (KafkaException, TopicMissingError)):
            with attempt:
                await asyncio.to_thread(
                    check_partition_counts, self._config, self._cell, self._topics, self._partitions
                )
                self._seen.set()
        await asyncio.Event().wait()  # it has nothing more to do, and a part that ends would end the process
