"""The log of a partition on Kafka: one transactional producer, and readers of what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from jobledger.eventlog.clients import ClientConfig, KafkaConnection, consumer_config, transactional_config
from jobledger.processors.calls import call_or_leave
from jobledger.processors.core.machine import LostCommandError
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.ports import FencedError, RefusedRecordError, TakeState
from jobledger.processors.core.recovery import LostTailError
from jobledger.processors.core.state_records import CHECKPOINT_KEY
from jobledger.schemas.commands import NO_COMMANDS
from jobledger.schemas.outcomes import encode_outcome
from jobledger.schemas.topics import Topic, topic_name

INIT_SECONDS = 30.0
#: The call is repeated after so long, until it is through: an opening that is not wanted any more ends in between.
MEET_QUESTIONS = 10
INIT_STEP_SECONDS = 0.5
COMMIT_SECONDS = 3.0
COMMIT_PAUSE_SECONDS = 0.02
#: A call of the client that has not come back by then never will: each of them has a shorter time-out of its own.
#: With a new opening after it this is less than an api waits for an outcome.
STUCK_SECONDS = COMMIT_SECONDS + 1.0
#: After a broker was away the first group offset of a transaction is as a rule never answered: wait less for it.
OFFSET_SECONDS = 1.5
STUCK_OFFSET_SECONDS = OFFSET_SECONDS + 1.0
OPEN_SECONDS = 300.0
READ_SECONDS = 30.0
READ_BATCH = 2_000
#: The end of a partition is told after an empty fetch: a long one would be waited for at each takeover.
READ_WAIT_MS = 10
TAIL_STEP = 64
#: Commands that are read at a time past the feed: they wait in memory until they are decided.
REFILL_BYTES = 4 * 1024 * 1024
#: The group's offset is for lag tools and a start near the checkpoint; the checkpoint in `state` is the truth.
GROUP_OFFSET_SECONDS = 1.0

T = TypeVar("T")

_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
_REFUSED = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG}


class StuckError(RuntimeError):
    """The Kafka client does not come back from a call; what became of it is unknown."""


class _UnwantedError(Exception):
    """The opening was given up; nobody waits for what it finds."""


class LogReadError(RuntimeError):
    """The log could not be read to its end in time."""


@dataclass(frozen=True)
class RecoveredState:
    """The number of the last event, and the end of the commands."""

    last_event_seq: int = 0
    commands_end: int = 0


class KafkaPartitionLog:
    """`PartitionLog` on Kafka. Its transactions touch only this partition of events, state and outcomes."""

    def __init__(self, kafka: KafkaConnection, cell: str, partition: int, instance_id: str) -> None:
        self._cell = cell
        self._partition = partition
        client_id = f"{instance_id}-owner-{partition}"
        self._producer_config = transactional_config(kafka, client_id, f"{cell}-{partition}")
        self._consumer_config: ClientConfig = {
            **consumer_config(kafka, client_id, f"{cell}-owner"),
            "fetch.wait.max.ms": READ_WAIT_MS,
        }
        self._group_config: ClientConfig = consumer_config(kafka, client_id, scheduler_group(cell))
        self._producer: Producer | None = None
        self._group: Consumer | None = None
        self._reader: Consumer | None = None
        self._group_offset_at = 0.0
        #: Set while somebody waits for the opening under way.
        self._wanted = threading.Event()

    # -- opening -------------------------------------------------------------------------------------------------

    async def open(self, take: TakeState) -> RecoveredState:
        """Fence older owners for good, then read `state` and the end of `events`; see PartitionLog.

        When it is cancelled, what it does in its thread ends soon, and fences nobody from then on.
        """
        wanted = self._wanted = threading.Event()
        wanted.set()
        try:
            return await self._bounded(lambda: self._open(take), OPEN_SECONDS)
        except asyncio.CancelledError:
            self._producer = self._group = self._reader = None
            raise
        finally:
            wanted.clear()

    def _open(self, take: TakeState) -> RecoveredState:
        wanted = self._wanted
        self._close()
        producer = Producer(self._producer_config)
        _meet(producer, topic_name(self._cell, Topic.STATE))
        _fence(producer, wanted)
        self._producer = producer
        self._group = Consumer(self._group_config)
        self._reader = Consumer(self._consumer_config)
        low, _ = self._watermarks(Topic.STATE)
        first_time = True
        for batch in self._batches(Topic.STATE, low):
            _check_wanted(wanted)
            first_time = first_time and all(message.key() != CHECKPOINT_KEY for message in batch)
            take([(message.key() or b"", message.value()) for message in batch])
        if first_time:
            self._check_first_time()
        return RecoveredState(self._last_event_seq(), self._watermarks(Topic.COMMANDS)[1])

    def _check_first_time(self) -> None:
        """Raise LostTailError when the group says that commands were decided, but `state` knows of none."""
        assert self._group is not None
        name = topic_name(self._cell, Topic.COMMANDS)
        (found,) = self._group.committed([TopicPartition(name, self._partition)], timeout=READ_SECONDS)
        if found.offset > 0:
            raise LostTailError(
                f"Partition {self._partition}: commands up to offset {found.offset} of '{name}' were decided, but "
                f"'{topic_name(self._cell, Topic.STATE)}' is empty. Records were lost; the partition stays closed. "
                f"Restore the topic from a copy."
            )

    def _watermarks(self, topic: Topic) -> tuple[int, int]:
        assert self._reader is not None
        at = TopicPartition(topic_name(self._cell, topic), self._partition)
        low, high = self._reader.get_watermark_offsets(at, timeout=READ_SECONDS)
        return low, high

    def _read(self, topic: Topic, start: int) -> Generator[Message, None, None]:
        """Records from `start` to the end of the partition: its last stable offset."""
        with contextlib.closing(self._batches(topic, start)) as batches:
            for batch in batches:
                yield from batch

    def _batches(self, topic: Topic, start: int) -> Generator[list[Message], None, None]:
        """`_read` by the batch: a million dead records of `state` cost two seconds like this, three one by one."""
        reader = self._reader  # an opening that was given up must not touch the reader of the next one
        assert reader is not None
        reader.assign([TopicPartition(topic_name(self._cell, topic), self._partition, start)])
        deadline = time.monotonic() + READ_SECONDS
        self._read_until = 0
        try:
            while True:
                # What is there is taken as it is: a `consume` that may wait does so until the batch is full.
                first = reader.poll(0.05)
                batch = [] if first is None else [first, *reader.consume(READ_BATCH, 0)]
                good = [message for message in batch if message.error() is None]
                yield good
                if len(good) < len(batch) and (end := _end(batch)) is not None:
                    self._read_until = end
                    return
                if batch:
                    deadline = time.monotonic() + READ_SECONDS
                elif time.monotonic() > deadline:
                    raise LogReadError(f"'{topic_name(self._cell, topic)}' [{self._partition}] gave nothing for 30 s.")
        finally:
            reader.unassign()

    def _last_event_seq(self) -> int:
        """Number of the last committed event: looks backwards, since transaction markers stand at the end."""
        low, high = self._watermarks(Topic.EVENTS)
        step = TAIL_STEP
        while True:
            start = max(low, high - step)
            last = 0
            for message in self._read(Topic.EVENTS, start):
                last = _sequence(message) or last
            if last or start <= low:
                return last
            step *= 8

    async def _bounded(self, call: Callable[[], T], seconds: float) -> T:
        """A call that may never come back: librdkafka loses the answer to some requests when a broker dies.

        Its clients are then given up, with their thread; the next `open` fences what they might still do.
        Raises StuckError.
        """
        try:
            return await call_or_leave(call, seconds)
        except TimeoutError as error:
            self._producer = self._group = self._reader = None
            raise StuckError(f"A call of the Kafka client has not come back for {seconds:.0f} s.") from error

    # -- writing -------------------------------------------------------------------------------------------------

    async def commit(self, plan: Plan) -> None:
        """Write the plan in one transaction; see PartitionLog."""
        try:
            if time.monotonic() - self._group_offset_at >= GROUP_OFFSET_SECONDS:
                await self._bounded(lambda: self._write(plan, group_offset=True), STUCK_OFFSET_SECONDS)
                await self._bounded(self._end, STUCK_SECONDS)
            else:
                await self._bounded(lambda: self._commit(plan), STUCK_SECONDS)
        except KafkaException as error:
            code = error.args[0].code()
            if code in _FENCED:
                raise FencedError(str(error)) from error
            if code in _REFUSED:
                raise RefusedRecordError(str(error)) from error
            raise

    def _commit(self, plan: Plan) -> None:
        self._write(plan, group_offset=False)
        self._end()

    def _write(self, plan: Plan, *, group_offset: bool) -> None:
        producer = self._producer
        assert producer is not None
        p = self._partition
        events, state, outcomes = (topic_name(self._cell, t) for t in (Topic.EVENTS, Topic.STATE, Topic.OUTCOMES))
        producer.begin_transaction()
        for event in plan.events:
            producer.produce(events, event.value, event.key, p, headers=event.headers)
        for key, value in plan.state.items():
            producer.produce(state, value, key, p)
        for outcome in plan.outcomes:
            producer.produce(outcomes, encode_outcome(outcome), outcome.command_id.encode(), p)
        if group_offset:
            self._send_group_offset(producer, plan)

    def _end(self) -> None:
        producer = self._producer
        assert producer is not None
        deadline = time.monotonic() + COMMIT_SECONDS
        timed_out = False
        while True:
            try:
                producer.commit_transaction(max(0.1, deadline - time.monotonic()))
                return
            except KafkaException as error:
                # A commit that has timed out goes on in the client, which may not take it up again at once.
                under_way = timed_out and error.args[0].code() == KafkaError._STATE
                if not (error.args[0].retriable() or under_way) or time.monotonic() >= deadline:
                    raise
                timed_out = True
                time.sleep(COMMIT_PAUSE_SECONDS if under_way else 0)

    def _send_group_offset(self, producer: Producer, plan: Plan) -> None:
        assert self._group is not None
        self._group_offset_at = time.monotonic()
        at = TopicPartition(topic_name(self._cell, Topic.COMMANDS), self._partition, plan.checkpoint.offset)
        producer.send_offsets_to_transaction([at], self._group.consumer_group_metadata(), OFFSET_SECONDS)

    # -- reading commands past the feed --------------------------------------------------------------------------

    async def commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` command records from `offset` on; see PartitionLog."""
        return await asyncio.to_thread(self._commands_from, offset, limit)

    def _commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        low, high = self._watermarks(Topic.COMMANDS)
        if offset < low and low == high:
            raise LostCommandError(
                f"Partition {self._partition}: command records {offset} to {low - 1} are not in the log any more; "
                f"the partition stays closed."
            )
        if offset >= high:
            return []
        records: list[tuple[int, bytes]] = []
        size = 0
        expected = max(low, offset)  # whoever decides them sees that some are missing
        with contextlib.closing(self._read(Topic.COMMANDS, expected)) as messages:
            for message in messages:
                at = message.offset() or 0
                records += [(missing, NO_COMMANDS) for missing in range(expected, min(at, expected + limit))]
                records.append((at, message.value() or b""))
                expected = at + 1
                size += len(message.value() or b"")
                if len(records) >= limit or size >= REFILL_BYTES:
                    return records[:limit]
        # Up to where the reader has come, not to the watermark: that may be of another leader, which knew of more.
        records += [(missing, NO_COMMANDS) for missing in range(expected, min(self._read_until, expected + limit))]
        return records[:limit]

    async def close(self) -> None:
        """Let go of the clients; an open transaction is left for the broker or the next owner to abort."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for consumer in (self._group, self._reader):
            if consumer is not None:
                consumer.close()
        self._producer = self._group = self._reader = None


def _meet(producer: Producer, topic: str) -> None:
    """Wait until the producer has a connection to a broker's own address.

    An `init_transactions` that finds its first connection being replaced by such a one looks for the coordinator again
    half a second later only (librdkafka 2.x, `rd_kafka_txn_coord_query`): half of all openings did. An answer that
    came over the first connection tells no broker's id.
    """
    with contextlib.suppress(KafkaException):  # who is not there now is waited for, and told of, by what comes next
        for _ in range(MEET_QUESTIONS):
            if producer.list_topics(topic, timeout=INIT_STEP_SECONDS).orig_broker_id >= 0:
                return


def _fence(producer: Producer, wanted: threading.Event) -> None:
    """`init_transactions` in short steps: what has timed out goes on where it was when it is called again."""
    deadline = time.monotonic() + INIT_SECONDS
    while True:
        _check_wanted(wanted)
        try:
            producer.init_transactions(INIT_STEP_SECONDS)
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() >= deadline:
                raise


def _check_wanted(wanted: threading.Event) -> None:
    if not wanted.is_set():
        raise _UnwantedError


def scheduler_group(cell: str) -> str:
    """The consumer group of a cell's schedulers."""
    return f"{cell}-scheduler"


def _end(batch: list[Message]) -> int | None:
    """The end of the partition if it is among what was read; raises KafkaException for an error that stays."""
    found: int | None = None
    for message in batch:
        error = message.error()
        if error is None:
            continue
        if error.code() == KafkaError._PARTITION_EOF:
            found = message.offset() or 0
        elif not error.retriable() and error.code() != KafkaError._TRANSPORT:
            raise KafkaException(error)
    return found


def _sequence(message: Message) -> int:
    """The event's number; 0 for a record that is no event, such as somebody else's bytes."""
    found = dict(message.headers() or []).get("ce_sequence")
    return int(found) if isinstance(found, bytes) and found.isdigit() else 0
