"""The tail of `events`: the newest events of each partition in memory, and the subscribers that wait for more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.partitions import PartitionReader
from jobledger.eventlog.positions import Vector
from jobledger.eventlog.tail import RecordBounds, Tail
from jobledger.schemas.decoding import decoder
from jobledger.schemas.events import TYPE_PREFIX, EventMapper, EventRecord, UnknownEventTypeError, sequence_in
from jobledger.telemetry.logs import get_logger

#: What is kept for subscribers that come back, over all partitions.
MAX_KEPT_BYTES = 32 * 1024 * 1024
MAX_KEPT_EVENTS = 40_000
#: Records of a partition that are read when the tail begins.
READ_BACK_RECORDS = 1_000
#: Events that may wait for one subscriber.
MAX_WAITING = 2_000

#: Hears of every event of a job, as it stands in the log: its value, and what gives its headers.
OnJob = Callable[[bytes, Callable[[], Any]], None]

log = get_logger()
_mapper = EventMapper()


class _Tag(msgspec.Struct):
    type: str


class _Tagged(msgspec.Struct):
    data: _Tag


_peek = decoder(_Tagged)


def read_event(value: bytes) -> EventRecord:
    """The event in a record; raises UnknownEventTypeError."""
    try:
        record: EventRecord = _mapper.transcoder.decode(value)
        return record
    except msgspec.ValidationError:
        return _mapper.read(TYPE_PREFIX + _peek(value).data.type, value)


class Kept(NamedTuple):
    """An event as it stands in the log."""

    seq: int
    key: bytes
    value: bytes


class Offered(NamedTuple):
    """An event for a subscriber; `before`: what the tail had seen when this batch began."""

    partition: int
    record: EventRecord
    before: Vector


class Subscriber:
    """The bounded queue of one subscription. When it is full, nothing more comes in: `ended` says why."""

    __slots__ = ("_wake", "ended", "job", "matches", "partitions", "waiting")

    def __init__(self, matches: Callable[[EventRecord], bool], partitions: frozenset[int], job: bytes | None) -> None:
        self.matches = matches
        self.partitions = partitions
        self.job = job
        self.waiting: deque[Offered] = deque()
        self.ended: str | None = None
        self._wake = asyncio.Event()

    def offer(self, event: Offered) -> None:
        """Take in an event, or end."""
        if self.ended is not None:
            return
        if len(self.waiting) >= MAX_WAITING:
            self.end(f"Over {MAX_WAITING:,} events waited for this subscriber; subscribe again after the position.")
            return
        self.waiting.append(event)
        self._wake.set()

    def end(self, reason: str) -> None:
        """Let nothing more in."""
        if self.ended is None:
            self.ended = reason
        self._wake.set()

    async def more(self) -> bool:
        """Wait for an event; False when none will come any more."""
        while not self.waiting:
            if self.ended is not None:
                return False
            self._wake.clear()
            await self._wake.wait()
        return True


class EventTail(Tail):
    """Every api process reads all partitions of `events`, and decodes what somebody wants."""

    name = "events"

    def __init__(
        self,
        config: ClientConfig,
        topic: str,
        partitions: int,
        on_queue: Callable[[EventRecord], None],
        on_job: OnJob | None = None,
    ) -> None:
        super().__init__(config, topic, partitions)
        self._on_queue = on_queue
        self._on_job = on_job
        self._kept: list[deque[Kept]] = [deque() for _ in range(partitions)]
        self._bytes = [0] * partitions
        self.vector: Vector = dict.fromkeys(range(partitions), 0)
        self._wide: set[Subscriber] = set()
        self._by_job: dict[bytes, set[Subscriber]] = {}

    @property
    def subscribers(self) -> int:
        """How many subscriptions are live."""
        return len(self._wide) + sum(map(len, self._by_job.values()))

    def find_starts(self, reader: PartitionReader, bounds: RecordBounds) -> dict[int, int]:
        """Some records before the end of each partition: they tell how far its `seq` is."""
        return {partition: max(low, end - READ_BACK_RECORDS) for partition, (low, end) in bounds.items()}

    def forget(self) -> None:
        """Begin anew; who was live has to come back, since something may have been missed."""
        self.end_all("The api lost its connection to the log; subscribe again after the position.")
        self._kept = [deque() for _ in range(self.partitions)]
        self._bytes = [0] * self.partitions
        self.vector = dict.fromkeys(range(self.partitions), 0)

    def end_all(self, reason: str) -> None:
        """End every live subscription."""
        for subscriber in [*self._wide, *(one for found in self._by_job.values() for one in found)]:
            subscriber.end(reason)

    async def deliver(self, batch: list[Message]) -> None:
        """Keep the batch and offer it to the subscribers."""
        before = dict(self.vector)
        for message in batch:
            partition, value, key = message.partition() or 0, message.value() or b"", message.key() or b""
            key = key.encode() if isinstance(key, str) else key
            value = value.encode() if isinstance(value, str) else value
            if b":" not in key:
                continue  # somebody else's bytes: an event names its stream
            known = self.vector[partition]
            seq = known + 1
            if not known or not value.startswith(b'{"id":"%d-%d"' % (partition, seq)):
                found = sequence_in(message.headers())
                if found is None or (known and found == known):
                    continue  # somebody else's bytes again, or a copy
                if known and found != seq:
                    raise ValueError(f"Event {found} of partition {partition} came after {known}.")
                seq = found
            self.vector[partition] = seq
            self._keep(partition, Kept(seq, key, value))
            if self._on_job is not None and key.startswith(b"job:"):
                self._on_job(value, message.headers)
            self._pass_on(partition, key, value, before)

    def _keep(self, partition: int, event: Kept) -> None:
        kept = self._kept[partition]
        kept.append(event)
        self._bytes[partition] += len(event.value)
        bound = MAX_KEPT_BYTES // self.partitions
        while len(kept) > MAX_KEPT_EVENTS // self.partitions or (self._bytes[partition] > bound and len(kept) > 1):
            self._bytes[partition] -= len(kept.popleft().value)

    def _pass_on(self, partition: int, key: bytes, value: bytes, before: Vector) -> None:
        if key.startswith(b"queue:"):
            if b'"queue.created.' in value or b'"queue.updated.' in value:
                self._on_queue(read_event(value))
            return
        if not key.startswith(b"job:"):
            return
        own = self._by_job.get(key)
        if not own and not self._wide:
            return
        takers = [one for one in (*(own or ()), *self._wide) if partition in one.partitions]
        if not takers:
            return
        try:
            record = read_event(value)
        except UnknownEventTypeError as error:
            for one in takers:
                one.end(str(error))
            return
        event = Offered(partition, record, before)
        for one in takers:
            if one.matches(record):
                one.offer(event)

    def covers(self, partition: int, seq: int) -> bool:
        """Whether everything behind event `seq` of a partition is in memory.

        Nothing is known of what is not until the tail has read to the end of the log: with an empty memory it cannot
        tell a partition without events from one that it has not read yet.
        """
        if not self.running:
            return False
        kept = self._kept[partition]
        oldest = kept[0].seq if kept else self.vector[partition] + 1
        return oldest <= seq + 1

    def kept_after(self, partition: int, seq: int) -> Iterable[Kept]:
        """The events in memory behind `seq`."""
        kept = self._kept[partition]
        if not kept:
            return []
        first = max(0, seq + 1 - kept[0].seq)
        return [kept[index] for index in range(first, len(kept))]

    def join(self, subscriber: Subscriber, seen: Vector) -> list[Offered]:
        """Make a subscriber live; gives what is in memory behind `seen`, so that nothing is between the two."""
        found = []
        before = dict(seen)
        for partition in subscriber.partitions:
            for event in self.kept_after(partition, seen[partition]):
                if subscriber.job is None and not event.key.startswith(b"job:"):
                    continue
                if subscriber.job is not None and event.key != subscriber.job:
                    continue
                record = read_event(event.value)
                if subscriber.matches(record):
                    found.append(Offered(partition, record, before))
        if subscriber.job is None:
            self._wide.add(subscriber)
        else:
            self._by_job.setdefault(subscriber.job, set()).add(subscriber)
        return found

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; nothing happens if it is not live."""
        self._wide.discard(subscriber)
        if subscriber.job is not None and (own := self._by_job.get(subscriber.job)) is not None:
            own.discard(subscriber)
            if not own:
                del self._by_job[subscriber.job]

    def oldest_unseen_ms(self, seen: Vector) -> int | None:
        """When the oldest event behind `seen` that is in memory happened."""
        times = []
        for partition in range(self.partitions):
            first = next(iter(self.kept_after(partition, seen.get(partition, 0))), None)
            if first is not None:
                times.append(read_event(first.value).at_ms)
        return min(times, default=None)
