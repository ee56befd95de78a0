"""Reading whole partitions of the log, in order, without a group."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobledger.eventlog.clients import KafkaConnection, consumer_config
from jobledger.replay.report import VerifyError, VerifySettingsError
from jobledger.schemas.topics import Topic, topic_name

BATCH = 5_000
#: How long a partition may give nothing before the reader gives up.
SILENCE_SECONDS = 20.0
METADATA_SECONDS = 10.0
#: How long is waited for what has been committed elsewhere and is not visible here yet.
CATCH_UP_SECONDS = 15.0
_PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT}


class Log:
    """The committed records of a cell's topics, by partition."""

    def __init__(self, kafka: KafkaConnection, cell: str) -> None:
        self._cell = cell
        self._where = kafka.client_config().get("bootstrap.servers", "")
        # It goes from partition to partition: a fetch that waits at the end of one would hold the next one up.
        quick = {"fetch.wait.max.ms": 10, "fetch.error.backoff.ms": 10, "log_level": 2}
        self._consumer = Consumer({**consumer_config(kafka, "replay", f"{cell}-replay"), **quick})

    def close(self) -> None:
        """Let go of the client."""
        self._consumer.close()

    def partitions(self, topic: Topic) -> int:
        """How many partitions a topic has. Raises VerifyError when it doesn't exist or Kafka is away."""
        name = topic_name(self._cell, topic)
        try:
            found = self._consumer.list_topics(name, timeout=METADATA_SECONDS).topics[name]
        except KafkaException as error:
            raise VerifyError(
                f"Kafka at {self._where} can't be reached ({error.args[0].str()}): is it running? Start it, or set "
                f"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS."
            ) from error
        if found.error is not None or not found.partitions:
            raise VerifySettingsError(f"Topic '{name}' does not exist; set JOBLEDGER_CELL to the cell that is meant.")
        return len(found.partitions)

    def watermarks(self, topic: Topic, partition: int) -> tuple[int, int]:
        """First offset, and the one behind the last."""
        at = TopicPartition(topic_name(self._cell, topic), partition)
        low, high = self._consumer.get_watermark_offsets(at, timeout=METADATA_SECONDS)
        return low, high

    def read(self, topic: Topic, partition: int, start: int) -> Iterator[Message | None]:
        """Records from an offset on; None again and again while there is nothing behind. The caller ends it.

        Raises VerifyError when nothing comes for 20 s.
        """
        name = topic_name(self._cell, topic)
        self._consumer.assign([TopicPartition(name, partition, start)])
        quiet_since, at_end = time.monotonic(), False
        while True:
            first = self._consumer.poll(0.1)
            if first is None:
                if at_end:
                    yield None
                elif time.monotonic() - quiet_since > SILENCE_SECONDS:
                    raise VerifyError(f"'{name}' [{partition}] gave nothing for {SILENCE_SECONDS:.0f} s; try again.")
                continue
            quiet_since = time.monotonic()
            for message in [first, *self._consumer.consume(BATCH, 0)]:
                error = message.error()
                if error is None:
                    at_end = False
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    at_end = True
                    yield None
                elif not error.retriable() and error.code() not in _PASSING:
                    raise VerifyError(f"'{name}' [{partition}] can't be read: {error.str()}")

    def last_event_seq(self, partition: int) -> int:
        """Number of the last committed event of a partition."""
        low, high = self.watermarks(Topic.EVENTS, partition)
        step = 64
        while True:
            start, last = max(low, high - step), 0
            for message in self.read(Topic.EVENTS, partition, start):
                if message is None:
                    break
                last = sequence(message) or last
            if last or start <= low:
                return last
            step *= 8

    def state(self, partition: int) -> Iterator[Message | None]:
        """The records of a partition's state, from the first one that is left."""
        return self.read(Topic.STATE, partition, self.watermarks(Topic.STATE, partition)[0])


def sequence(message: Message) -> int:
    """The `seq` in an event's headers; 0 when there is none."""
    found = _header(message, "ce_sequence")
    return int(found) if found.isdigit() else 0


def type_header(message: Message) -> str:
    """The type in an event's headers; empty when there is none."""
    return _header(message, "ce_type").decode(errors="replace")


def _header(message: Message, wanted: str) -> bytes:
    headers = dict(message.headers() or [])
    found = headers.get(wanted)
    return found if isinstance(found, bytes) else b""
