"""Whether topics have the number of partitions that this process was told: what is sent by another goes astray."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka.admin import AdminClient

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.topics import TopicError, TopicMissingError
from jobledger.schemas.topics import Topic, partition_count, topic_name

ASK_SECONDS = 2.0


class PartitionCountError(TopicError):
    """A topic has another number of partitions than this process was told; the message says what to set."""


def check_partition_counts(config: ClientConfig, cell: str, topics: Iterable[Topic], partitions: int) -> None:
    """Ask the brokers; raises TopicMissingError, PartitionCountError, and KafkaException when no broker answers."""
    found = AdminClient({**config, "log_level": 0}).list_topics(timeout=ASK_SECONDS).topics
    for topic in topics:
        name = topic_name(cell, topic)
        count = len(found[name].partitions) if name in found else 0
        if not count:
            raise TopicMissingError(
                f"Topic '{name}' does not exist (yet): any scheduler of the cell makes it at its start. "
                f"Is JOBLEDGER_CELL right?"
            )
        check_partition_count(name, count, partition_count(topic, partitions), partitions)


def check_partition_count(name: str, count: int, wanted: int, setting: int) -> None:
    """Raise PartitionCountError unless a topic has the `wanted` number, which follows from JOBLEDGER_PARTITIONS."""
    if count == wanted:
        return
    if wanted != setting:
        raise PartitionCountError(
            f"Topic '{name}' has {count} partitions, but needs {wanted}: no scheduler has made it."
        )
    raise PartitionCountError(
        f"Topic '{name}' has {count} partitions, but JOBLEDGER_PARTITIONS is {setting}: what was sent would go astray. "
        f"Set it to {count}, the number that the cell was made with, or name another cell in JOBLEDGER_CELL."
    )
