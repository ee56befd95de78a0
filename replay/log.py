"""Reading whole partitions of the log, in order, without a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from confluent_kafka import KafkaError, KafkaException, Message

from jobledger.eventlog.clients import KafkaConnection, consumer_config
from jobledger.eventlog.event_offsets import last_event_seq
from jobledger.eventlog.partitions import PartitionReader, SilentLogError
from jobledger.replay.report import VerifyError, VerifySettingsError
from jobledger.schemas.topics import Topic, topic_name

BATCH = 5_000
#: How long a partition may give nothing before the reader gives up.
SILENCE_SECONDS = 20.0
METADATA_SECONDS = 10.0
#: How long is waited for what has been committed elsewhere and is not visible here yet.
CATCH_UP_SECONDS = 15.0


class Log:
    """The committed records of a cell's topics, by partition."""

    def __init__(self, kafka: KafkaConnection, cell: str) -> None:
        self._cell = cell
        self._where = kafka.client_config().get("bootstrap.servers", "")
        # It goes from partition to partition: a fetch that waits at the end of one would hold the next one up.
        quick = {"fetch.wait.max.ms": 10, "fetch.error.backoff.ms": 10, "log_level": 2}
        self._reader = PartitionReader({**consumer_config(kafka, "replay", f"{cell}-replay"), **quick})

    def close(self) -> None:
        """Let go of the client."""
        self._reader.close()

    def partitions(self, topic: Topic) -> int:
        """How many partitions a topic has. Raises VerifyError when it doesn't exist or Kafka is away."""
        name = topic_name(self._cell, topic)
        try:
            found = self._reader.partitions(name, METADATA_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                found = 0
            else:
                raise VerifyError(
                    f"Kafka at {self._where} can't be reached ({error.args[0].str()}): is it running? Start it, or set "
                    f"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS."
                ) from error
        if not found:
            raise VerifySettingsError(f"Topic '{name}' does not exist; set JOBLEDGER_CELL to the cell that is meant.")
        return found

    def watermarks(self, topic: Topic, partition: int) -> tuple[int, int]:
        """First offset, and the one behind the last."""
        return self._reader.bounds(topic_name(self._cell, topic), partition, METADATA_SECONDS)

    def read(self, topic: Topic, partition: int, start: int) -> Iterator[Message | None]:
        """Records from an offset on; None again and again while there is nothing behind. The caller ends it.

        Raises VerifyError when nothing comes for 20 s.
        """
        name = topic_name(self._cell, topic)
        batches = self._reader.follow(name, {partition: start}, silence_seconds=SILENCE_SECONDS, most=BATCH)
        at_end = False
        with closing(batches):
            try:
                for taken in batches:
                    yield from taken.records
                    at_end = partition in taken.at_end() or (at_end and not taken.records)
                    if at_end:
                        yield None
            except SilentLogError:
                silence = f"gave nothing for {SILENCE_SECONDS:.0f} s"
                raise VerifyError(f"'{name}' [{partition}] {silence}; try again.") from None
            except KafkaException as error:
                raise VerifyError(f"'{name}' [{partition}] can't be read: {error.args[0].str()}") from error

    def last_event_seq(self, partition: int) -> int:
        """Number of the last committed event of a partition."""
        name = topic_name(self._cell, Topic.EVENTS)
        try:
            return last_event_seq(self._reader, name, partition, SILENCE_SECONDS)
        except SilentLogError as error:
            raise VerifyError(f"{error} Try again.") from None

    def state(self, partition: int) -> Iterator[Message | None]:
        """The records of a partition's state, from the first one that is left."""
        return self.read(Topic.STATE, partition, self.watermarks(Topic.STATE, partition)[0])


def type_header(message: Message) -> str:
    """The type in an event's headers; empty when there is none."""
    return _header(message, "ce_type").decode(errors="replace")


def _header(message: Message, wanted: str) -> bytes:
    headers = dict(message.headers() or [])
    found = headers.get(wanted)
    return found if isinstance(found, bytes) else b""
