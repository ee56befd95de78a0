"""The one reader of Kafka: partitions that the caller chooses, batch by batch (those that a group gives: group_reader).

Blocking: for one thread at a time. `LogReader` (reader.py) follows partitions in a thread of its own over it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple, Self, TypeVar

import stamina
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobledger.eventlog.clients import KAFKA_LOG, ClientConfig

#: Records of one batch, when the caller does not say.
BATCH_RECORDS = 2_000
#: So long a batch waits for its first record.
STEP_SECONDS = 0.1
ANSWER_SECONDS = 10.0
PAUSE_SECONDS = 0.05
#: Offsets looked back from an end at first: marks of transactions stand there.
STEP_BACK = 64

T = TypeVar("T")

#: Errors that librdkafka recovers from by itself, as while a broker is away.
PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)


class SilentLogError(RuntimeError):
    """A partition gives neither records nor its end; `passing`: the connection's last error meanwhile."""

    def __init__(self, topic: str, partitions: Iterable[int], seconds: float, passing: KafkaError | None) -> None:
        where = f"'{topic}' [{', '.join(map(str, sorted(partitions)))}]"
        super().__init__(f"{where} gave nothing for {seconds:.0f} s{f' ({passing.str()})' if passing else ''}.")
        self.passing = passing


class Taken(NamedTuple):
    """A batch: the records, the partitions whose end was met (with its offset), and the errors that were met."""

    records: list[Message]
    ends: dict[int, int]
    errors: list[tuple[int, KafkaError]]

    def at_end(self) -> set[int]:
        """The partitions whose end was met with no record of them behind it."""
        if not self.ends:
            return set()
        passed = {p for m in self.records if (p := m.partition() or 0) in self.ends and _offset(m) >= self.ends[p]}
        return self.ends.keys() - passed


def passes(error: KafkaError) -> bool:
    """Whether the client gets over an error by itself."""
    return error.retriable() or error.code() in PASSING


def _patiently(ask: Callable[[float], T], seconds: float) -> T:
    """The answer to a question that is given the seconds that are left; asked again while what is wrong passes."""
    deadline = time.monotonic() + seconds
    for attempt in stamina.retry_context(
        on=_passes,
        attempts=None,
        timeout=seconds,
        wait_initial=PAUSE_SECONDS,
        wait_max=PAUSE_SECONDS,
        wait_jitter=0.0,
    ):
        with attempt:
            answer = ask(max(deadline - time.monotonic(), PAUSE_SECONDS))
    return answer


def _passes(error: Exception) -> bool:
    return isinstance(error, KafkaException) and passes(error.args[0])


def take(consumer: Consumer, seconds: float, most: int, pause: Callable[[], None] | None = None) -> Taken:
    """What is there, waiting up to `seconds` for the first of it, and for nothing more.

    A `consume` that may wait does so until its batch is full. `pause` is called when the first has come.
    """
    first = consumer.poll(seconds)
    if first is None:
        return Taken([], {}, [])
    if pause is not None:
        pause()
    batch = [first, *consumer.consume(most - 1, 0)] if most > 1 else [first]
    records = [message for message in batch if message.error() is None]
    ends: dict[int, int] = {}
    errors: list[tuple[int, KafkaError]] = []
    if len(records) < len(batch):
        for message in batch:
            error, partition = message.error(), message.partition() or 0
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                ends[partition] = _offset(message)
            elif error is not None:
                errors.append((partition, error))
    return Taken(records, ends, errors)


class PartitionReader:
    """Reads partitions from offsets that the caller names; commits nothing, is a member of no group.

    Only committed records, up to the last stable offset, when it was configured by `consumer_config`. Every method
    raises KafkaException: for an error that stays at once, for one that passes when the time is over.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._consumer = Consumer(config, logger=KAFKA_LOG)
        self._assigned: list[TopicPartition] = []
        #: The last error that passes, since something last came.
        self.passing: KafkaError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the client; may be called twice."""
        self._consumer.close()

    # -- what a topic says of itself ------------------------------------------------------------------------------

    def partitions(self, topic: str, seconds: float = ANSWER_SECONDS) -> int:
        """How many partitions a topic has."""
        found = self._consumer.list_topics(topic, timeout=seconds).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return len(found.partitions)

    def bounds(self, topic: str, partition: int, seconds: float = ANSWER_SECONDS) -> tuple[int, int]:
        """First offset, and the one behind the last; waits out what passes, such as a new leader."""
        at = TopicPartition(topic, partition)
        found = _patiently(lambda left: self._consumer.get_watermark_offsets(at, timeout=left), seconds)
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{topic} does not answer"))
        return found[0], found[1]

    def committed(self, topic: str, partition: int, seconds: float = ANSWER_SECONDS) -> int:
        """The offset that the group of the configuration has for a partition, below 0 when it has none."""
        at = TopicPartition(topic, partition)
        (found,) = _patiently(lambda left: self._consumer.committed([at], timeout=left), seconds)
        return found.offset

    def group(self) -> Any:
        """Names that group, for a producer that writes its offsets with a transaction."""
        return self._consumer.consumer_group_metadata()

    def record_bounds(
        self, topic: str, partitions: Iterable[int], seconds: float = ANSWER_SECONDS
    ) -> dict[int, tuple[int, int]]:
        """By partition: first offset, and the one behind the last committed record; the first again if there is none.

        Behind that record may be marks of transactions, up to the end that `bounds` tells. Raises SilentLogError too.
        """
        bounds = {partition: self.bounds(topic, partition, seconds) for partition in partitions}
        ends = {partition: low for partition, (low, _) in bounds.items()}
        unknown = {partition for partition, (low, high) in bounds.items() if high > low}
        step = STEP_BACK
        while unknown:
            starts = {p: max(bounds[p][0], bounds[p][1] - step) for p in unknown}
            unread = set(unknown)
            with closing(self.follow(topic, starts, silence_seconds=seconds)) as batches:
                while unread:
                    taken = next(batches)
                    for message in taken.records:
                        partition = message.partition() or 0
                        ends[partition] = _offset(message) + 1
                        if ends[partition] >= bounds[partition][1]:
                            unread.discard(partition)  # one that is written to all the time may never show its end
                    unread -= taken.ends.keys()
            unknown = {p for p in unknown if ends[p] <= starts[p] and starts[p] > bounds[p][0]}
            step *= 8
        return {partition: (low, ends[partition]) for partition, (low, _) in bounds.items()}

    def since(self, topic: str, times: Mapping[int, int], seconds: float = ANSWER_SECONDS) -> dict[int, int]:
        """For each partition the first offset whose record is not older than the time in ms; -1: all are older."""
        wanted = [TopicPartition(topic, partition, at_ms) for partition, at_ms in times.items()]
        found = self._consumer.offsets_for_times(wanted, timeout=seconds)
        return {at.partition: at.offset for at in found if at.error is None}

    # -- reading --------------------------------------------------------------------------------------------------

    def assign(self, topic: str, starts: Mapping[int, int]) -> None:
        """Read on from these offsets, by partition, and nothing else."""
        self._assigned = [TopicPartition(topic, partition, offset) for partition, offset in starts.items()]
        self._consumer.assign(self._assigned)

    def unassign(self) -> None:
        """Read nothing more; what was fetched ahead is dropped."""
        self._consumer.unassign()

    def take(self, seconds: float = STEP_SECONDS, most: int = BATCH_RECORDS) -> Taken:
        """The next batch of what is assigned, empty when nothing came within `seconds`."""
        taken = take(self._consumer, seconds, most)
        if taken.records or taken.ends:
            self.passing = None
        for _, error in taken.errors:
            if not passes(error):
                raise KafkaException(error)
            self.passing = error
        return taken

    def follow(
        self,
        topic: str,
        starts: Mapping[int, int],
        *,
        silence_seconds: float = float("inf"),
        step_seconds: float = STEP_SECONDS,
        most: int = BATCH_RECORDS,
    ) -> Generator[Taken, None, None]:
        """Batches from these offsets on, without end, an empty one after each `step_seconds` in which nothing came.

        Raises SilentLogError when for so long a partition has neither given a record nor shown its end. What is
        given before may hold the end (`Taken.ends`); the caller stops where he likes and closes the generator.
        """
        self.passing = None
        self.assign(topic, starts)
        assigned = self._assigned
        unread = set(starts)
        spoke = dict.fromkeys(starts, time.monotonic())
        try:
            while True:
                taken = self.take(step_seconds, most)
                gave = {*starts} if taken.records and len(starts) == 1 else {m.partition() or 0 for m in taken.records}
                unread = (unread | gave) - taken.at_end()
                now = time.monotonic()
                spoke.update(dict.fromkeys(gave | taken.ends.keys(), now))
                if silent := {partition for partition in unread if now - spoke[partition] > silence_seconds}:
                    raise SilentLogError(topic, silent, silence_seconds, self.passing)
                yield taken
                if taken.records or taken.ends:
                    busy = time.monotonic() - now  # what the caller did with it is no silence
                    spoke = {partition: since + busy for partition, since in spoke.items()}
        finally:
            if self._assigned is assigned:  # a generator may be closed late, when something else is read already
                self.unassign()

    def to_end(
        self,
        topic: str,
        partition: int,
        start: int,
        *,
        silence_seconds: float = float("inf"),
        step_seconds: float = STEP_SECONDS,
        most: int = BATCH_RECORDS,
    ) -> Generator[Taken, None, None]:
        """`follow` of one partition as far as its end, which the last batch tells (`Taken.ends`).

        The end is that of the committed records, not the watermark: that may be of another leader, which knew of more.
        """
        batches = self.follow(
            topic, {partition: start}, silence_seconds=silence_seconds, step_seconds=step_seconds, most=most
        )
        with closing(batches):
            for taken in batches:
                yield taken
                if partition in taken.ends:
                    return

    def first_record(self, topic: str, partition: int, offset: int, seconds: float = ANSWER_SECONDS) -> Message | None:
        """The first committed record at `offset` or behind it; None when the end comes first."""
        self.assign(topic, {partition: offset})
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            taken = self.take(left, 1)
            if taken.records:
                return taken.records[0]
            if taken.ends:
                return None
        raise KafkaException(self.passing or KafkaError(KafkaError._TIMED_OUT, f"{topic} does not answer"))


def _offset(message: Message) -> int:
    return message.offset() or 0
