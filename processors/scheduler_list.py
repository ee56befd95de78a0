"""The schedulers of a cell, as they announce themselves twice a second."""

from __future__ import annotations

import time
from contextlib import closing
from typing import NamedTuple

import msgspec

from jobledger.eventlog.clients import KafkaConnection, consumer_config, look_up_config
from jobledger.eventlog.partition_counts import check_partition_counts
from jobledger.eventlog.partitions import PartitionReader
from jobledger.processors.heartbeats import PROBE_WORKER
from jobledger.schemas.topics import Topic, topic_name
from jobledger.schemas.worker import decode_heartbeat


class SchedulerSeen(NamedTuple):
    """A scheduler that lives: its slot, the partitions that it serves, and those that the group has given to it."""

    scheduler: str
    serves: list[int]
    holds: list[int]


def listen(kafka: KafkaConnection, cell: str, partitions: int, seconds: float) -> list[SchedulerSeen]:
    """Who announces himself within so many seconds, by name; one of an older release by a number of its own.

    Raises TopicError for a cell of another size, KafkaException.
    """
    check_partition_counts(kafka.client_config(), cell, [Topic.STATE], partitions)
    topic, found = topic_name(cell, Topic.HEARTBEATS), dict[str, SchedulerSeen]()
    config = look_up_config({**consumer_config(kafka, "schedulers", f"{cell}-schedulers"), "log_level": 2})
    with PartitionReader(config) as reader:
        _, end = reader.bounds(topic, 0)
        until = time.monotonic() + seconds
        with closing(reader.follow(topic, {0: end})) as batches:
            for taken in batches:
                for message in taken.records:
                    if (seen := _seen(message.value() or b"")) is not None:
                        found[seen.scheduler] = seen
                if time.monotonic() >= until:
                    break
    return sorted(found.values())


def _seen(value: bytes) -> SchedulerSeen | None:
    try:
        said = decode_heartbeat(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if said.worker != PROBE_WORKER:
        return None
    return SchedulerSeen(said.scheduler or said.incarnation, said.serves or [], said.holds or [])
