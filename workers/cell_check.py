"""A worker checks first that the cell is the one that it was told of."""

from __future__ import annotations

import asyncio
from functools import partial

from confluent_kafka import KafkaException

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.partition_counts import PartitionCountError, check_partition_counts
from jobledger.eventlog.topics import TopicMissingError
from jobledger.schemas.topics import Topic
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import StandingService
from jobledger.telemetry.waiting import tries_every

AGAIN_SECONDS = 0.3
#: A command or a heartbeat on the wrong partition is read by an owner that knows nothing of its stream.
SPOKEN_TO = (Topic.COMMANDS, Topic.TASKS, Topic.HEARTBEATS)

log = get_logger()


class CellCheck(StandingService):
    """The first part of a process that reads and writes topics of a cell: it starts once they are there, and right.

    Kafka being away, and topics that no scheduler has made yet, are waited for. `refusal` is the sentence of the
    PartitionCountError that `start` raised.
    """

    name = "cell"

    def __init__(self, config: ClientConfig, cell: str, partitions: int) -> None:
        self._config = config
        self._cell = cell
        self._partitions = partitions
        self.refusal = ""
        self._told = ""

    async def start(self) -> None:
        """Wait for the topics and look at their partitions; raises PartitionCountError."""
        self._stand()
        check = partial(check_partition_counts, self._config, self._cell, SPOKEN_TO, self._partitions)
        try:
            async for attempt in tries_every(AGAIN_SECONDS, self._is_missing):
                with attempt:
                    await asyncio.to_thread(check)
        except PartitionCountError as error:
            self.refusal = str(error)
            raise

    def _is_missing(self, error: Exception) -> bool:
        """Whether it can't be told yet; each reason is logged once."""
        missing = isinstance(error, KafkaException | TopicMissingError)
        if missing and str(error) != self._told:
            self._told = str(error)
            log.error("queue_connection_lost", error=self._told)
        return missing
