"""Reading a topic as a member of a consumer group, from positions that are kept elsewhere than in Kafka."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from jobledger.eventlog.clients import KAFKA_LOG, ClientConfig
from jobledger.eventlog.partitions import Taken, take

LEAVE_SECONDS = 2.0

#: Where to begin, by partition, in those that the group has given.
Assigned = Callable[[list[int]], Mapping[int, int]]
Revoked = Callable[[list[int]], None]


class GroupReader:
    """A member of a group with cooperative assignment; blocking, for one thread.

    `assigned` and `revoked` are called within `take` and `close`. What is committed to Kafka is for lag tools alone.
    """

    def __init__(self, config: ClientConfig, topic: str, assigned: Assigned, revoked: Revoked) -> None:
        self._topic = topic
        self._assigned = assigned
        self._revoked = revoked
        self._held: set[int] = set()
        self._committed: dict[int, int] = {}
        self._consumer = Consumer({**config, "partition.assignment.strategy": "cooperative-sticky"}, logger=KAFKA_LOG)
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def take(self, seconds: float, most: int, pause: Callable[[], None]) -> Taken:
        """The next batch, see `partitions.take`; its errors are the caller's to judge."""
        return take(self._consumer, seconds, most, pause)

    def seek(self, partition: int, offset: int) -> None:
        """Go on from an offset; raises KafkaException while a partition that came a moment ago isn't ready for it."""
        self._consumer.seek(TopicPartition(self._topic, partition, offset))

    def behind(self, partition: int, offset: int) -> int:
        """Offsets from `offset` to the end that the client has last heard of; 0 when it has heard of none."""
        with contextlib.suppress(KafkaException):
            found = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
            return max(found[1] - offset, 0) if found else 0
        return 0

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka the next offset by partition, where it has moved on; not waited for."""
        moved = {p: offset for p, offset in offsets.items() if self._committed.get(p, 0) < offset}
        if not moved:
            return
        with contextlib.suppress(KafkaException):  # the next one carries it too
            self._consumer.commit(
                offsets=[TopicPartition(self._topic, p, offset) for p, offset in moved.items()], asynchronous=True
            )
            self._committed.update(moved)

    def close(self) -> None:
        """Leave the group. Closing alone would keep a static member's partitions until its session ends."""
        with contextlib.suppress(KafkaException, RuntimeError):
            deadline = time.monotonic() + LEAVE_SECONDS
            self._consumer.unsubscribe()
            while self._held and time.monotonic() < deadline:
                self._consumer.poll(0.02)
            self._consumer.poll(0.05)  # the request to leave goes out
            self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = self._assigned([at.partition for at in partitions])
        for at in partitions:
            at.offset = starts[at.partition]
        consumer.incremental_assign(partitions)
        self._held.update(starts)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        given_up = [at.partition for at in partitions]
        self._revoked(given_up)
        self._held.difference_update(given_up)
        for partition in given_up:
            self._committed.pop(partition, None)
        consumer.incremental_unassign(partitions)
