"""The subscription to events of jobs: history, what was missed, then live; without gaps and without repeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from cachetools import LRUCache
from confluent_kafka import KafkaException

from jobledger.domain.identity import split_stream
from jobledger.domain.job.events import JobSubmitted
from jobledger.eventlog.positions import Vector, encode_position
from jobledger.graphql.catch_up import CatchUp
from jobledger.graphql.convert import event_of
from jobledger.graphql.cursors import Cursors
from jobledger.graphql.event_filter import EventFilter
from jobledger.graphql.event_tail import EventTail, Subscriber, read_event
from jobledger.graphql.open_subscriptions import OpenSubscriptions
from jobledger.graphql.reads import read_model_errors
from jobledger.graphql.scalars import Position
from jobledger.graphql.types.errors import ErrorCode, QueryError, user_error
from jobledger.graphql.types.inputs import JobEventFilter
from jobledger.graphql.types.jobs import JobEvent, JobEventItem, Resync
from jobledger.projections.read_model import ReadModel
from jobledger.schemas.events import EventRecord
from jobledger.telemetry.metrics import Metrics

#: How long a position may be ahead of this process's tail, and a job unknown to the read model.
PATIENCE_SECONDS = 5.0
PAUSE_SECONDS = 0.02
HISTORY_PAGE = 500
MAX_JOBS_REMEMBERED = 100_000
LOG_LOST = "The api lost its connection to the log; subscribe again after the position."


class EventStreams:
    """Makes the streams of all subscribers of this process."""

    def __init__(
        self,
        tail: EventTail,
        catch_up: CatchUp,
        model: ReadModel,
        cell: str,
        metrics: Metrics,
        subscriptions: OpenSubscriptions,
    ) -> None:
        self._tail = tail
        self._catch_up = catch_up
        self._model = model
        self._cell = cell
        self._subscriptions = subscriptions
        self._sent = metrics.bind("jobledger_subscription_events_total")
        self._dropped = metrics.bind("jobledger_subscriptions_dropped_total")
        self._queue_of: LRUCache[str, str] = LRUCache(MAX_JOBS_REMEMBERED)

    async def stream(
        self, cursors: Cursors, wanted: JobEventFilter | None, after: Position | None, from_start: bool
    ) -> AsyncGenerator[JobEventItem, None]:
        """The items of one subscription; raises QueryError for a filter or position that can't be."""
        want = EventFilter.of(cursors.tenant, wanted, from_start=from_start, after=bool(after))
        with self._subscriptions.one():
            seen = await self._begin(cursors, want, after)
            async with aclosing(self._items(want, seen, from_start)) as items:
                async for item in items:
                    (self._dropped if isinstance(item, Resync) else self._sent).inc()
                    yield item

    async def _begin(self, cursors: Cursors, want: EventFilter, after: Position | None) -> Vector:
        """Where to start in each partition that matters."""
        await self._until(lambda: self._tail.running, "The log can't be read now", ErrorCode.UNAVAILABLE)
        partitions = want.partitions(self._tail.partitions)
        given = cursors.read_position(after) if after else {}
        seen = {partition: given.get(partition, self._tail.vector[partition]) for partition in partitions}
        await self._until(
            lambda: all(self._tail.vector[partition] >= seq for partition, seq in seen.items()),
            "The position is ahead of the log",
            ErrorCode.INVALID_POSITION,
        )
        return seen

    @staticmethod
    async def _until(holds: object, problem: str, code: ErrorCode) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():  # type: ignore[operator]
            if time.monotonic() > deadline:
                raise QueryError(user_error(code, problem, "try again, or subscribe without `after`", ["after"]))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _items(self, want: EventFilter, seen: Vector, from_start: bool) -> AsyncGenerator[JobEventItem, None]:
        if from_start:
            async with aclosing(self._history(want, seen)) as history:
                async for record, partition in history:
                    yield self._event(record, partition, seen)
        try:
            async with aclosing(self._missed(want, seen)) as missed:
                async for record, partition in missed:
                    if await self._in_queue(want, record):
                        yield self._event(record, partition, seen)
        except KafkaException:
            yield self._resync(LOG_LOST, seen)
            return
        async with aclosing(self._live(want, seen)) as live:
            async for item in live:
                yield item

    def _resync(self, reason: str, seen: Vector) -> Resync:
        return Resync(message=reason, position=Position(encode_position(self._cell, seen)))

    def _event(self, record: EventRecord, partition: int, seen: Vector) -> JobEvent:
        return event_of(record, partition, encode_position(self._cell, seen))

    async def _history(self, want: EventFilter, seen: Vector) -> AsyncGenerator[tuple[EventRecord, int], None]:
        """All of one job's events in the read model; `seen` is then what that has seen."""
        assert want.job is not None
        (partition,) = seen
        version, more = 0, True
        while more:
            # Each page and its position are of one instant; none is held open while a subscriber takes its time.
            with read_model_errors():
                async with self._model.snapshot() as view:
                    upto = view.vector.get(partition, 0)
                    page = await view.job_events(want.tenant, want.job, after=version, first=HISTORY_PAGE)
            for row in page.items:
                record = row.record()
                version, seen[partition] = row.version, row.seq
                if want.matches(record):
                    yield record, partition
            more = page.has_next
        seen[partition] = upto  # the tail may have been ahead of it: what it alone has comes next

    async def _missed(self, want: EventFilter, seen: Vector) -> AsyncGenerator[tuple[EventRecord, int], None]:
        """What is older than the tail's memory, from the log; ends when the memory covers the rest."""
        while behind := {p: seq for p, seq in seen.items() if not self._tail.covers(p, seq)}:
            async with aclosing(self._catch_up.read(behind)) as batches:
                async for batch in batches:
                    for partition, seq, key, value in batch:
                        if seq <= seen[partition]:
                            continue
                        if seq != seen[partition] + 1:
                            raise ValueError(f"Event {seq} of partition {partition} came after {seen[partition]}.")
                        seen[partition] = seq
                        if key.startswith(want.prefix) and want.matches(record := read_event(value)):
                            yield record, partition
                    if all(self._tail.covers(p, seen[p]) for p in behind):
                        break

    async def _live(self, want: EventFilter, seen: Vector) -> AsyncGenerator[JobEventItem, None]:
        key = want.prefix if want.job is not None else None
        subscriber = Subscriber(want.matches, frozenset(seen), key)
        subscriber.waiting.extend(self._tail.join(subscriber, seen))
        base: Vector | None = None
        try:
            while await subscriber.more():
                event = subscriber.waiting.popleft()
                if event.before is not base:
                    base = event.before
                    seen.update({p: max(seen[p], base[p]) for p in seen})
                if event.record.seq <= seen[event.partition]:
                    continue  # the history had it: the read model was ahead of this process's tail
                seen[event.partition] = event.record.seq
                if await self._in_queue(want, event.record):
                    yield self._event(event.record, event.partition, seen)
        finally:
            self._tail.leave(subscriber)
        yield self._resync(subscriber.ended or "The stream ended.", seen)

    async def _in_queue(self, want: EventFilter, record: EventRecord) -> bool:
        """Whether the event's job goes to the wanted queue; only a job's first event names it."""
        if want.queue is None:
            return True
        job_id = split_stream(record.originator_id)[2]
        if isinstance(record.data, JobSubmitted):
            self._queue_of[job_id] = record.data.queue
        elif job_id not in self._queue_of:
            self._queue_of[job_id] = await self._look_up(want.tenant, job_id)
        return self._queue_of[job_id] == want.queue

    async def _look_up(self, tenant: str, job_id: str) -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with read_model_errors():
                row = await self._model.job(tenant, job_id)
            if row is not None:
                return row.queue
            if time.monotonic() > deadline:
                problem = f"The read model does not know job '{job_id}' yet, so its queue can't be told"
                raise QueryError(user_error(ErrorCode.UNAVAILABLE, problem, "subscribe again later"))
            await asyncio.sleep(0.1)
