"""A worker checks first that the cell is the one that it was told of."""

from __future__ import annotations

import asyncio

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.topics import TopicError
from jobledger.schemas.topics import Topic, partition_count, topic_name
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import StandingService

ASK_SECONDS = 2.0
AGAIN_SECONDS = 0.3
#: A command or a heartbeat on the wrong partition is read by an owner that knows nothing of its stream.
SPOKEN_TO = (Topic.COMMANDS, Topic.TASKS, Topic.HEARTBEATS)

log = get_logger()


class CellCheck(StandingService):
    """The first part of a process that reads and writes topics of a cell: it starts once they are there, and right.

    Kafka being away, and topics that no scheduler has made yet, are waited for. `refusal` is the sentence of the
    TopicError that `start` raised.
    """

    name = "cell"

    def __init__(self, config: ClientConfig, cell: str, partitions: int) -> None:
        self._config = config
        self._cell = cell
        self._partitions = partitions
        self.refusal = ""

    async def start(self) -> None:
        """Wait for the topics and look at their partitions; raises TopicError when there are more or fewer."""
        self._stand()
        told = ""
        while True:
            missing = await self._missing()
            if not missing:
                return
            if missing != told:
                log.error("queue_connection_lost", error=missing)
                told = missing
            await asyncio.sleep(AGAIN_SECONDS)

    async def _missing(self) -> str:
        """Why it can't be told yet; empty when all is right."""
        try:
            found = await asyncio.to_thread(count_partitions, self._config, self._cell)
        except KafkaException as error:
            return str(error)
        for topic in SPOKEN_TO:
            count, wanted = found.get(topic), partition_count(topic, self._partitions)
            if not count:
                return (
                    f"Topic '{topic_name(self._cell, topic)}' does not exist (yet): any scheduler of the cell makes it "
                    f"at its start. Is JOBLEDGER_CELL right?"
                )
            if count != wanted:
                self.refusal = _wrong_count(topic_name(self._cell, topic), count, self._partitions, wanted)
                raise TopicError(self.refusal)
        return ""


def count_partitions(config: ClientConfig, cell: str) -> dict[Topic, int]:
    """How many partitions the topics of a cell have, as the brokers say; those that don't exist are missing.

    Raises KafkaException when no broker answers.
    """
    topics = AdminClient({**config, "log_level": 0}).list_topics(timeout=ASK_SECONDS).topics
    names = {topic: topic_name(cell, topic) for topic in Topic}
    return {topic: len(topics[name].partitions) for topic, name in names.items() if name in topics}


def _wrong_count(name: str, count: int, setting: int, wanted: int) -> str:
    if wanted != setting:
        return f"Topic '{name}' has {count} partitions, but needs {wanted}: no scheduler has made it."
    return (
        f"Topic '{name}' has {count} partitions, but JOBLEDGER_PARTITIONS is {setting}: what was sent would go astray. "
        f"Set it to {count}, the number that the cell was made with, or name another cell in JOBLEDGER_CELL."
    )
