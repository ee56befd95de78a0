"""Where in a topic something stands: blocking look-ups, for threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobledger.eventlog.clients import ClientConfig
from jobledger.schemas.events import sequence_in

TIMEOUT_SECONDS = 5.0
#: A search ends when this few offsets are left; they are read through.
CLOSE_ENOUGH = 500
FIRST_STEP_BACK = 1_000


class PartitionCountError(RuntimeError):
    """The topic has another number of partitions than this process was told."""


class LogProbe:
    """Looks into single partitions of one topic."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def check_partitions(self, expected: int) -> None:
        """Raise PartitionCountError, or KafkaException while the topic can't be seen."""
        found = self._consumer.list_topics(self._topic, timeout=TIMEOUT_SECONDS).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        if len(found.partitions) != expected:
            raise PartitionCountError(
                f"Topic '{self._topic}' has {len(found.partitions)} partitions, but JOBLEDGER_PARTITIONS is "
                f"{expected}; set it to the number that the cell was made with."
            )

    def bounds(self, partition: int) -> tuple[int, int]:
        """First offset, and the one behind the last; raises KafkaException."""
        found = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=TIMEOUT_SECONDS)
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{self._topic} does not answer"))
        return found[0], found[1]

    def since(self, times: dict[int, int]) -> dict[int, int]:
        """For each partition the first offset whose record is not older than the time in ms; the end if none is."""
        wanted = [TopicPartition(self._topic, partition, at_ms) for partition, at_ms in times.items()]
        found = self._consumer.offsets_for_times(wanted, timeout=TIMEOUT_SECONDS)
        return {at.partition: at.offset for at in found if at.error is None}

    def first_record(self, partition: int, offset: int) -> Message | None:
        """The first committed record at `offset` or behind it; None when the end comes first."""
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        message = self._consumer.poll(TIMEOUT_SECONDS)
        if message is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{self._topic} does not answer"))
        error = message.error()
        if error is None:
            return message
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        raise KafkaException(error)

    def _first_event(self, partition: int, offset: int) -> tuple[int, int] | None:
        """(offset, seq) of the first event at `offset` or behind it; somebody else's bytes are passed over."""
        while (found := self.first_record(partition, offset)) is not None:
            at = found.offset() or 0
            seq = sequence_in(found.headers())
            if seq is not None:
                return at, seq
            offset = at + 1
        return None

    def before_end(self, partition: int) -> int:
        """An offset from which there are some records to the end; the first one when there are none at all."""
        low, high = self.bounds(partition)
        step = FIRST_STEP_BACK
        while high - step > low and self.first_record(partition, high - step) is None:
            step *= 8
        return max(low, high - step)

    def locate(self, partition: int, seq: int) -> int:
        """An offset not behind the event number `seq + 1`, and close before it."""
        low, high = self.bounds(partition)
        while high - low > CLOSE_ENOUGH:
            middle = (low + high) // 2
            found = self._first_event(partition, middle)
            if found is not None and found[1] <= seq:
                low = found[0]
            else:
                high = middle
        return low


@contextmanager
def probing(config: ClientConfig, topic: str) -> Iterator[LogProbe]:
    """A probe with a consumer of its own."""
    consumer = Consumer({**config, "queued.max.messages.kbytes": 1024, "fetch.wait.max.ms": 50})
    try:
        yield LogProbe(consumer, topic)
    finally:
        consumer.close()
