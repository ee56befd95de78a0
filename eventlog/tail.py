"""A reader of every partition of a topic that is kept running: started again after an error, with a pause."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from confluent_kafka import KafkaException, Message

from jobledger.eventlog.clients import ClientConfig, look_up_config
from jobledger.eventlog.event_offsets import LOOK_UP_SECONDS
from jobledger.eventlog.partition_counts import PartitionCountError, check_partition_count
from jobledger.eventlog.partitions import PartitionReader, SilentLogError
from jobledger.eventlog.reader import LogReader
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import TaskService

START_SECONDS = 15.0
PAUSE_SECONDS = 1.0
CHECK_SECONDS = 0.02

log = get_logger()

#: By partition: first offset, and the one behind the last committed record.
RecordBounds = dict[int, tuple[int, int]]


class Tail(TaskService, ABC):
    """Base of the api's two tails, each of a whole topic. `start` waits a while for its end.

    It is kept running: whenever it breaks, after days or at once, it begins anew after the same pause.
    """

    def __init__(self, config: ClientConfig, topic: str, partitions: int) -> None:
        self._config = config
        self._topic = topic
        self.partitions = partitions
        self._caught_up = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether the tail has read to the end of the topic since it was last started."""
        return self._caught_up.is_set()

    @abstractmethod
    def find_starts(self, reader: PartitionReader, bounds: RecordBounds) -> dict[int, int]:
        """The offset to begin at for each partition; runs in a thread, may raise KafkaException."""

    @abstractmethod
    async def deliver(self, batch: list[Message]) -> None:
        """Take in a batch."""

    @abstractmethod
    def forget(self) -> None:
        """Called before the tail reads from its starts (again)."""

    async def start(self) -> None:
        """Begin to read; raises PartitionCountError."""
        task = self._begin(self._keep_running(), f"tail-{self._topic}")
        caught_up = asyncio.ensure_future(self._caught_up.wait())
        await asyncio.wait([task, caught_up], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        caught_up.cancel()
        if task.done():
            task.result()

    async def _keep_running(self) -> None:
        while True:
            try:
                await self._run_once()
            except PartitionCountError:
                raise
            except (KafkaException, SilentLogError) as error:
                log.warning("tail_restarted", error=f"{self._topic}: {error}")
            except Exception as error:  # whatever one record brings about must not end the api's eyes for good
                log.warning("tail_restarted", error=f"{self._topic}: {type(error).__name__}: {error}", exc_info=True)
            self._caught_up.clear()
            await asyncio.sleep(PAUSE_SECONDS)

    def _look_up(self) -> tuple[dict[int, int], dict[int, int]]:
        """Where to begin, and where the records end, by partition."""
        with PartitionReader(look_up_config(self._config)) as reader:
            count = reader.partitions(self._topic, LOOK_UP_SECONDS)
            check_partition_count(self._topic, count, self.partitions, self.partitions)
            bounds = reader.record_bounds(self._topic, range(self.partitions), LOOK_UP_SECONDS)
            return self.find_starts(reader, bounds), {p: end for p, (_, end) in bounds.items()}

    async def _run_once(self) -> None:
        starts, ends = await asyncio.to_thread(self._look_up)
        self.forget()
        reader = LogReader(self._config, self._topic, starts, self.deliver, ends)
        try:
            await reader.start()
            ended = asyncio.ensure_future(reader.wait())
            while not ended.done() and not reader.caught_up:
                await asyncio.wait([ended], timeout=CHECK_SECONDS)
            if not ended.done():
                self._caught_up.set()
            await ended
        finally:
            await reader.stop()
