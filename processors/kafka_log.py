"""The log of a partition on Kafka: one transactional producer, and readers of what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from jobledger.eventlog.clients import KAFKA_LOG, ClientConfig, KafkaConnection, consumer_config, transactional_config
from jobledger.eventlog.event_offsets import last_event_seq
from jobledger.eventlog.partitions import PartitionReader, Taken
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
#: The end of a partition is told after an empty fetch: a long one would be waited for at each takeover.
READ_WAIT_MS = 10
#: So often an opening under way looks whether it is still wanted.
STEP_SECONDS = 0.05
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
            **consumer_config(kafka, client_id, scheduler_group(cell)),
            "fetch.wait.max.ms": READ_WAIT_MS,
        }
        self._producer: Producer | None = None
        self._reader: PartitionReader | None = None
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
            self._producer = self._reader = None
            raise
        finally:
            wanted.clear()

    def _open(self, take: TakeState) -> RecoveredState:
        wanted = self._wanted
        self._close()
        producer = Producer(self._producer_config, logger=KAFKA_LOG)
        _meet(producer, topic_name(self._cell, Topic.STATE))
        _fence(producer, wanted)
        _check_wanted(wanted)  # nobody lets go of what is made from here on when nobody waits for it
        self._producer = producer
        reader = self._reader = PartitionReader(self._consumer_config)
        first_time = True
        with contextlib.closing(self._to_end(reader, Topic.STATE, self._bounds(reader, Topic.STATE)[0])) as batches:
            for taken in batches:
                _check_wanted(wanted)
                first_time = first_time and all(message.key() != CHECKPOINT_KEY for message in taken.records)
                take([(message.key() or b"", message.value()) for message in taken.records])
        if first_time:
            self._check_first_time(reader)
        last = last_event_seq(reader, topic_name(self._cell, Topic.EVENTS), self._partition, READ_SECONDS)
        return RecoveredState(last, self._bounds(reader, Topic.COMMANDS)[1])

    def _check_first_time(self, reader: PartitionReader) -> None:
        """Raise LostTailError when the group says that commands were decided, but `state` knows of none."""
        name = topic_name(self._cell, Topic.COMMANDS)
        offset = reader.committed(name, self._partition, READ_SECONDS)
        if offset > 0:
            raise LostTailError(
                f"Partition {self._partition}: commands up to offset {offset} of '{name}' were decided, but "
                f"'{topic_name(self._cell, Topic.STATE)}' is empty. Records were lost; the partition stays closed. "
                f"Restore the topic from a copy."
            )

    def _bounds(self, reader: PartitionReader, topic: Topic) -> tuple[int, int]:
        return reader.bounds(topic_name(self._cell, topic), self._partition, READ_SECONDS)

    def _to_end(self, reader: PartitionReader, topic: Topic, start: int) -> Generator[Taken, None, None]:
        """By the batch: a million dead records of `state` cost two seconds like this, three one by one."""
        name = topic_name(self._cell, topic)
        return reader.to_end(name, self._partition, start, silence_seconds=READ_SECONDS, step_seconds=STEP_SECONDS)

    async def _bounded(self, call: Callable[[], T], seconds: float) -> T:
        """A call that may never come back: librdkafka loses the answer to some requests when a broker dies.

        Its clients are then given up, with their thread; the next `open` fences what they might still do.
        Raises StuckError.
        """
        try:
            return await call_or_leave(call, seconds)
        except TimeoutError as error:
            self._producer = self._reader = None
            raise StuckError(f"A call of the Kafka client has not come back for {seconds:.0f} s.") from error

    # -- writing -------------------------------------------------------------------------------------------------

    async def commit(self, plan: Plan) -> None:
        """Write the plan in one transaction; see PartitionLog.

        All of it by one producer: a call that was given up may come back when there is another one.
        """
        producer = self._producer
        assert producer is not None
        try:
            if time.monotonic() - self._group_offset_at >= GROUP_OFFSET_SECONDS:
                await self._bounded(lambda: self._write(producer, plan, group_offset=True), STUCK_OFFSET_SECONDS)
                await self._bounded(lambda: self._end(producer), STUCK_SECONDS)
            else:
                await self._bounded(lambda: self._commit(producer, plan), STUCK_SECONDS)
        except KafkaException as error:
            code = error.args[0].code()
            if code in _FENCED:
                raise FencedError(str(error)) from error
            if code in _REFUSED:
                raise RefusedRecordError(str(error)) from error
            raise

    def _commit(self, producer: Producer, plan: Plan) -> None:
        self._write(producer, plan, group_offset=False)
        self._end(producer)

    def _write(self, producer: Producer, plan: Plan, *, group_offset: bool) -> None:
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

    def _end(self, producer: Producer) -> None:
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
        assert self._reader is not None
        self._group_offset_at = time.monotonic()
        at = TopicPartition(topic_name(self._cell, Topic.COMMANDS), self._partition, plan.checkpoint.offset)
        producer.send_offsets_to_transaction([at], self._reader.group(), OFFSET_SECONDS)

    # -- reading commands past the feed --------------------------------------------------------------------------

    async def commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` command records from `offset` on; see PartitionLog."""
        return await asyncio.to_thread(self._commands_from, offset, limit)

    def _commands_from(self, offset: int, limit: int) -> list[tuple[int, bytes]]:
        reader = self._reader
        assert reader is not None
        low, high = self._bounds(reader, Topic.COMMANDS)
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
        read_until = expected
        with contextlib.closing(self._to_end(reader, Topic.COMMANDS, expected)) as batches:
            for taken in batches:
                for message in taken.records:
                    at, value = message.offset() or 0, message.value() or b""
                    records += [(missing, NO_COMMANDS) for missing in range(expected, min(at, expected + limit))]
                    records.append((at, value))
                    expected = at + 1
                    size += len(value)
                    if len(records) >= limit or size >= REFILL_BYTES:
                        return records[:limit]
                read_until = taken.ends.get(self._partition, read_until)
        # Up to where the reader has come, not to the watermark: that may be of another leader, which knew of more.
        records += [(missing, NO_COMMANDS) for missing in range(expected, min(read_until, expected + limit))]
        return records[:limit]

    async def close(self) -> None:
        """Let go of the clients; an open transaction is left for the broker or the next owner to abort."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._producer = self._reader = None


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
