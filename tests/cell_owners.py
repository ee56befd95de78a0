"""The owners of a cell as the tests of other parts run them: a scheduler in this process, but without a group."""

from __future__ import annotations

import asyncio
import gc

from confluent_kafka import OFFSET_BEGINNING, Message

from jobledger.eventlog.clients import consumer_config
from jobledger.eventlog.reader import LogReader
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.processors.clock import SystemClock
from jobledger.processors.owners import OwnerSet
from jobledger.processors.scheduler_services import SchedulerServices
from jobledger.processors.services import AppService
from jobledger.schemas.commands import Command, read_record
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings, Settings
from jobledger.telemetry.metrics import Metrics

DURABILITY = Durability(replication_factor=1, min_insync_replicas=1, dev=True)


class CellOwners:
    """Owns all partitions of a cell from `start()` to `stop()`, and again after another `start()`.

    The parts are those of the product's scheduler, over Kafka; in place of its group, which takes seconds to settle,
    one reader offers the commands of all partitions. `sent` holds what others than owners have sent to `commands`, in
    the order of its arrival here, as far as owners were there to be offered it.
    """

    def __init__(self, kafka: KafkaSettings, cell: str, partitions: int, lease_seconds: float = 60.0) -> None:
        self.kafka = kafka
        self.cell = cell
        self.partitions = partitions
        self.sent: list[Command] = []
        self._settings = Settings(
            cell=cell, partitions=partitions, dev=True, instance_id="owners", kafka=kafka, lease_seconds=lease_seconds
        )
        self._next = dict.fromkeys(range(partitions), OFFSET_BEGINNING)
        self._feed: LogReader | None = None
        self._owners: OwnerSet | None = None
        self._services: list[AppService] = []

    async def start(self) -> None:
        """Make the topics if they are not there; returns when all partitions are served."""
        await asyncio.to_thread(ensure_topics, self.kafka.client_config(), self.cell, self.partitions, DURABILITY)
        metrics = Metrics("scheduler", instance_id="owners", strict=True)
        parts = SchedulerServices(self._settings, metrics, SystemClock())
        self._owners, self._services = parts.owners, parts.before_group()
        for service in self._services:
            await service.start()
        await parts.owners.assigned(set(range(self.partitions)))
        config = consumer_config(self.kafka, "owners-feed", f"{self.cell}-owners-feed")
        self._feed = LogReader(config, topic_name(self.cell, Topic.COMMANDS), dict(self._next), self._offer)
        await self._feed.start()
        await asyncio.wait_for(parts.owners.settle(), 60)

    async def stop(self) -> None:
        """Nobody owns anything any more: commands stay in the log. May be called twice."""
        if self._feed is not None:
            await self._feed.stop()
            self._feed = None
        if self._owners is not None:
            for service in reversed(self._services):
                await service.stop()
            self._owners, self._services = None, []
            gc.collect()  # its parts know each other; the threads of its clients end with them

    async def _offer(self, batch: list[Message]) -> None:
        assert self._owners is not None
        for message in batch:
            value, partition, offset = message.value(), message.partition() or 0, message.offset() or 0
            assert isinstance(value, bytes)
            record = read_record(value)
            if record.source is None:
                self.sent += [one for one in record.commands if isinstance(one, Command)]
            self._next[partition] = offset + 1
            self._owners.offer(partition, offset, value)
