"""What the cluster says of partitions of a cell: ends, leaders, replicas in sync, sizes of replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ClusterMetadata,
    ConfigResource,
    OffsetSpec,
    PartitionMetadata,
    ResourceType,
)

from jobledger.processors.calls import call_or_leave
from jobledger.processors.log_dirs import LogDirsUnreadableError, Place, Sizes, replica_sizes, who_asks
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings

T = TypeVar("T")

REQUEST_SECONDS = 5.0
#: What an owner reads and what its transactions write to.
_OF_A_PARTITION = (Topic.COMMANDS, Topic.EVENTS, Topic.STATE, Topic.OUTCOMES)
#: The topics whose replicas must not fall behind.
_TRUTH = (Topic.COMMANDS, Topic.EVENTS, Topic.STATE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was said, by partition; what is not in it was not said.

    `ends`: last stable offsets of commands. `healthy`: each topic has a leader and enough replicas in sync. `behind`:
    by how many bytes the smallest replica is behind its leader, the worst of commands, events and state.
    """

    ends: dict[int, int]
    healthy: dict[int, bool]
    behind: dict[int, int]


class ClusterView:
    """Asks, and waits five seconds at most for each answer."""

    def __init__(self, kafka: KafkaSettings, cell: str, client_id: str) -> None:
        self._config = {**kafka.client_config(), "client.id": client_id, "log_level": 0}
        self._asker = who_asks(kafka, client_id)
        self._commands = topic_name(cell, Topic.COMMANDS)
        self._names = [topic_name(cell, topic) for topic in _OF_A_PARTITION]
        self._truth = [topic_name(cell, topic) for topic in _TRUTH]
        self._admin: AdminClient | None = None

    async def look(self, partitions: Sequence[int]) -> Seen:
        """Ask about the partitions; never raises for a cluster that does not answer."""
        if not partitions:
            return Seen({}, {}, {})
        if self._admin is None:
            self._admin = AdminClient(self._config)
        admin = self._admin
        ends, metadata = await asyncio.gather(
            _asked(lambda: self._ends(admin, partitions)), _asked(lambda: admin.list_topics(timeout=REQUEST_SECONDS))
        )
        if metadata is None:
            return Seen(ends or {}, {}, {})
        healthy = await _asked(lambda: self._healthy(admin, metadata, partitions))
        return Seen(ends or {}, healthy or {}, await self._behind(metadata, partitions))

    def close(self) -> None:
        """Let go of the client; the next question makes another one."""
        self._admin = None

    def _ends(self, admin: AdminClient, partitions: Sequence[int]) -> dict[int, int]:
        wanted = {TopicPartition(self._commands, p): OffsetSpec.latest() for p in partitions}  # type: ignore[no-untyped-call]
        answers = admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_SECONDS
        )
        return {at.partition: future.result(REQUEST_SECONDS).offset for at, future in answers.items()}

    def _healthy(self, admin: AdminClient, metadata: ClusterMetadata, partitions: Sequence[int]) -> dict[int, bool]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in self._names]
        answers = admin.describe_configs(resources, request_timeout=REQUEST_SECONDS)
        least = {
            resource.name: int(future.result(REQUEST_SECONDS)["min.insync.replicas"].value)
            for resource, future in answers.items()
        }
        return {p: all(_is_well(_of(metadata, (n, p)), least[n]) for n in self._names) for p in partitions}

    async def _behind(self, metadata: ClusterMetadata, partitions: Sequence[int]) -> dict[int, int]:
        brokers = {broker.id: (str(broker.host), broker.port) for broker in metadata.brokers.values()}
        places = [(name, p) for name in self._truth for p in partitions]
        try:
            sizes = await replica_sizes(self._asker, brokers, places)
        except LogDirsUnreadableError:
            return {}
        behind = {}
        for partition in partitions:
            lags = [bytes_behind(_of(metadata, (name, partition)), sizes, (name, partition)) for name in self._truth]
            known = [lag for lag in lags if lag is not None]
            if len(known) == len(lags):
                behind[partition] = max(known)
        return behind


async def _asked(question: Callable[[], T]) -> T | None:
    """The answer; None when the cluster gives none in time."""
    try:
        return await call_or_leave(question, 3 * REQUEST_SECONDS)
    except (KafkaException, TimeoutError):
        return None


def _is_well(partition: PartitionMetadata | None, least: int) -> bool:
    return partition is not None and partition.leader >= 0 and len(partition.isrs) >= least


def _of(metadata: ClusterMetadata, place: Place) -> PartitionMetadata | None:
    topic = metadata.topics.get(place[0])
    return None if topic is None else topic.partitions.get(place[1])


def bytes_behind(partition: PartitionMetadata | None, sizes: Sizes, place: Place) -> int | None:
    """The leader's size minus that of the smallest replica; None when one of them is not known."""
    of = sizes.get(place, {})
    if partition is None or not {partition.leader, *partition.replicas} <= of.keys():
        return None
    return max(0, of[partition.leader] - min(of[replica] for replica in partition.replicas))
