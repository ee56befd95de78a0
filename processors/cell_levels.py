"""The format level of each partition of a cell: what it is, and how an operator raises it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from uuid_utils.compat import uuid7

from jobledger.domain.cell.commands import EnableLevel
from jobledger.domain.identity import cell_stream
from jobledger.domain.values import Actor, ActorKind
from jobledger.eventlog.clients import KAFKA_LOG, KafkaConnection, consumer_config, producer_config
from jobledger.eventlog.partition_counts import check_partition_counts
from jobledger.eventlog.partitions import PartitionReader
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.state_records import CHECKPOINT_KEY, UnreadableStateError, decode_state
from jobledger.schemas.commands import Command, encode_command, join_record
from jobledger.schemas.topics import Topic, topic_name

#: The last checkpoint of a partition is among its last records: each transaction ends with one.
LAST_RECORDS = 200
SILENCE_SECONDS = 10.0
LOOK_SECONDS = 0.2
OPERATOR = Actor(ActorKind.USER, "operator")


class PartitionLevel(NamedTuple):
    """What a partition is written in, and the newest level that its last owner reads; None: it has had no owner yet."""

    partition: int
    level: int | None
    reads: int | None


def read_levels(kafka: KafkaConnection, cell: str, partitions: int) -> list[PartitionLevel]:
    """The levels as the log has them.

    Raises TopicError for a cell of another size, KafkaException, SilentLogError, or UnreadableStateError.
    """
    check_partition_counts(kafka.client_config(), cell, [Topic.STATE], partitions)
    return _levels(kafka, cell, partitions)


def _levels(kafka: KafkaConnection, cell: str, partitions: int) -> list[PartitionLevel]:
    quick = {"fetch.wait.max.ms": 10, "log_level": 2}
    with PartitionReader({**consumer_config(kafka, "cluster", f"{cell}-cluster"), **quick}) as reader:
        return [_level(reader, topic_name(cell, Topic.STATE), partition) for partition in range(partitions)]


def _level(reader: PartitionReader, topic: str, partition: int) -> PartitionLevel:
    low, high = reader.bounds(topic, partition)
    for start in dict.fromkeys((max(low, high - LAST_RECORDS), low)):
        last: bytes | None = None
        with closing(reader.to_end(topic, partition, start, silence_seconds=SILENCE_SECONDS)) as batches:
            for taken in batches:
                for message in taken.records:
                    if message.key() == CHECKPOINT_KEY:
                        last = message.value()
        if last is not None:
            try:
                found: Checkpoint = decode_state(last)
            except UnreadableStateError as error:
                raise UnreadableStateError(f"The checkpoint of partition {partition}: {error}") from error
            return PartitionLevel(partition, found.level, found.reads)
    return PartitionLevel(partition, None, None)


def unready(found: list[PartitionLevel], level: int) -> list[int]:
    """Partitions whose last owner could not read a level."""
    return [one.partition for one in found if one.reads is not None and one.reads < level]


def enable(kafka: KafkaConnection, cell: str, partitions: int, level: int, seconds: float) -> list[PartitionLevel]:
    """Tell each partition's owner to write a level, and wait until all do, at most so long; gives the levels then.

    Raises KafkaException when the broker does not take it, and as `read_levels`, which is asked before.
    """
    deadline = time.monotonic() + seconds
    producer, refused = Producer(producer_config(kafka, "cluster"), logger=KAFKA_LOG), list[KafkaError]()

    def sent(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            refused.append(error)

    for partition in range(partitions):
        stream = cell_stream(partition, partitions)
        command = Command(id=str(uuid7()), stream=stream, actor=OPERATOR, body=EnableLevel(level=level))
        producer.produce(
            topic_name(cell, Topic.COMMANDS), join_record([encode_command(command)]), partition=partition, callback=sent
        )
    if producer.flush(seconds) or refused:
        raise KafkaException(refused[0] if refused else KafkaError(KafkaError._TIMED_OUT, "Kafka did not answer"))
    while True:
        found = _levels(kafka, cell, partitions)
        if all(one.level is not None and one.level >= level for one in found) or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_SECONDS)
