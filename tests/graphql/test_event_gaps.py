"""A subscription leaves no event out: not when the tail starts anew, not while the broker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar, cast

import pytest
from confluent_kafka import Message, Producer
from structlog.testing import capture_logs

from jobledger.dev.kafka import KafkaBroker
from jobledger.dev.ports import free_port
from jobledger.domain.identity import job_stream
from jobledger.domain.job.events import JobSubmitted
from jobledger.domain.values import Actor, ActorKind, Opaque, RetryPolicy
from jobledger.eventlog import tail as event_tail_base
from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.positions import Vector, decode_position
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.graphql.catch_up import MAX_AT_ONCE, CatchUp, LoggedEvent
from jobledger.graphql.event_filter import EventFilter
from jobledger.graphql.event_stream import EventStreams
from jobledger.graphql.event_tail import EventTail
from jobledger.graphql.open_subscriptions import OpenSubscriptions
from jobledger.graphql.types.errors import QueryError
from jobledger.graphql.types.jobs import JobEvent, Resync
from jobledger.projections.pages import Page
from jobledger.schemas.events import EventMapper, EventRecord, cloudevents_headers
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings
from jobledger.telemetry.metrics import Metrics

NOW = 1_800_000_000_000
_encode = EventMapper().transcoder.encode


class LogRecord:
    """An event as a consumer gives it."""

    def __init__(self, seq: int, partition: int = 0) -> None:
        self.seq, self.at = seq, partition
        self.record = EventRecord(
            id=f"{partition}-{seq}",
            originator_id=job_stream("default", f"{partition}-{seq}"),
            originator_version=1,
            seq=seq,
            tenant="default",
            at_ms=NOW,
            command_id="c",
            actor=Actor(ActorKind.USER, "u"),
            data=JobSubmitted(
                handler="h",
                queue="default",
                priority=3,
                payload=Opaque("{}"),
                submitted_at_ms=NOW,
                due_at_ms=NOW,
                retry=RetryPolicy(),
            ),
        )

    def partition(self) -> int:
        return self.at

    def value(self) -> bytes:
        return _encode(self.record)

    def key(self) -> bytes:
        return self.record.originator_id.encode()

    def headers(self) -> list[tuple[str, bytes]]:
        return cast("list[tuple[str, bytes]]", cloudevents_headers(self.record, b"/cells/c"))

    def offset(self) -> int:
        return self.seq

    def topic(self) -> str:
        return "events"


def records(first: int, last: int) -> list[Message]:
    return cast("list[Message]", [LogRecord(seq) for seq in range(first, last + 1)])


def metered() -> tuple[Metrics, OpenSubscriptions]:
    metrics = Metrics("api", instance_id="a", strict=True)
    return metrics, OpenSubscriptions(metrics)


def streams(tail: EventTail, catch_up: Any, cell: str = "c") -> EventStreams:
    return EventStreams(tail, catch_up, cast("Any", None), cell, *metered())


def seqs(events: list[Any]) -> list[int]:
    return [event.seq for event in events]


@pytest.mark.scenario("Kafka goes away", emits=("tail_restarted",))
async def test_a_tail_that_finds_no_broker_tells_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_tail_base, "LOOK_UP_SECONDS", 0.1)
    config = consumer_config(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"), "t", "t")
    tail = EventTail(config, "events", 1, lambda record: None)
    with capture_logs() as lines:
        starting = asyncio.create_task(tail.start())
        for _ in range(500):
            await asyncio.sleep(0.02)
            if told := [line["event"] for line in lines]:
                break
        assert told == ["tail_restarted"]
        assert not tail.running and not starting.done()
        starting.cancel()
        await tail.stop()


async def test_what_happened_while_the_tail_started_anew_is_read_from_the_log() -> None:
    """A subscriber is reading old events when the tail forgets all that it knows: it reads on, and skips nothing."""
    tail = EventTail({}, "events", 1, lambda record: None)
    tail._caught_up.set()
    await tail.deliver(records(4_001, 5_000))

    class Log:
        reads = 0

        async def read(self, behind: Vector) -> AsyncGenerator[list[LoggedEvent], None]:
            seen = behind[0]
            while seen < 5_000:
                self.reads += 1
                batch = [(0, m.seq, m.key(), m.value()) for m in cast("list[Any]", records(seen + 1, seen + 100))]
                seen += 100
                yield batch
                if self.reads == 1:
                    tail._caught_up.clear()
                    tail.forget()
                    assert not tail.covers(0, seen)
                elif self.reads == 3:
                    await tail.deliver(records(4_600, 5_000))
                    assert not tail.covers(0, seen), "not before the tail has read to the end"
                    tail._caught_up.set()

    want = EventFilter.of("default", None, from_start=False, after=True)
    got: list[Any] = []
    async with (
        aclosing(streams(tail, Log())._items(want, {0: 100}, False)) as items,
        asyncio.timeout(20),
    ):
        async for item in items:
            got.append(item)
            if len(got) == 4_900:
                break
    assert seqs(got) == list(range(101, 5_001))


async def test_a_tail_covers_an_empty_partition_once_it_has_read_to_the_end() -> None:
    tail = EventTail({}, "events", 1, lambda record: None)
    assert not tail.covers(0, 0)
    tail._caught_up.set()
    assert tail.covers(0, 0)


async def test_a_job_that_the_read_model_has_yet_to_see_is_told_by_the_tail() -> None:
    """Its history is empty there, and the tail has passed its first event: that comes from memory."""
    tail = EventTail({}, "events", 1, lambda record: None)
    tail._caught_up.set()
    await tail.deliver(records(1, 5))

    class Behind:
        vector: ClassVar[Vector] = {0: 2}

        @asynccontextmanager
        async def snapshot(self) -> AsyncIterator[Behind]:
            yield self

        async def job_events(self, *_: Any, **__: Any) -> Page[Any]:
            return Page(items=[], has_next=False)

    made = EventStreams(tail, cast("Any", None), cast("Any", Behind()), "c", *metered())
    want = EventFilter(tenant="default", prefix=job_stream("default", "0-4").encode(), job="0-4")
    async with aclosing(made._items(want, {0: 5}, True)) as items, asyncio.timeout(5):
        assert seqs([await anext(items)]) == [4]


async def test_the_bound_on_subscriptions_counts_those_that_have_yet_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand that come in one moment are not all let in because none of them has got an event yet."""
    monkeypatch.setattr("jobledger.graphql.open_subscriptions.MAX_SUBSCRIPTIONS", 3)
    tail = EventTail({}, "events", 1, lambda record: None)
    made = streams(tail, None)

    class Context:
        tenant = "default"

    opened = [made.stream(cast("Any", Context()), None, None, False) for _ in range(5)]
    waiting = [asyncio.ensure_future(anext(one)) for one in opened]
    done, pending = await asyncio.wait(waiting, timeout=1, return_when=asyncio.FIRST_EXCEPTION)
    refused = [one for one in done if isinstance(one.exception(), QueryError)]
    assert len(refused) == 2 and len(pending) == 3
    for one in pending:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert made._subscriptions._open == 0


# -- on a real log -----------------------------------------------------------------------------------------------------


class EventLog:
    """The topic of events of a cell with one partition, written by the test."""

    def __init__(self, bootstrap: str, cell: str) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap, replication_factor=1, min_insync_replicas=1)
        self.cell = cell
        self.topic = topic_name(cell, Topic.EVENTS)
        durability = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
        ensure_topics(self.kafka.client_config(), cell, 1, durability)
        self.reading = consumer_config(self.kafka, "test", f"{cell}-test")
        self._producer = Producer(producer_config(self.kafka, "test"))
        self.written = 0

    def write(self, count: int) -> None:
        for seq in range(self.written + 1, self.written + count + 1):
            one = LogRecord(seq)
            self._producer.produce(self.topic, one.value(), one.key(), 0, headers=cast("Any", one.headers()))
        self.written += count
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def tail(self) -> EventTail:
        return EventTail(self.reading, self.topic, 1, lambda record: None)


async def _follow(made: EventStreams, log: EventLog, got: list[int], upto: int) -> int:
    """A subscriber as clients are: it comes back after the position of a Resync. Gives how often it had to."""
    want = EventFilter.of("default", None, from_start=False, after=True)
    seen: Vector = {0: 0}
    returned = 0
    while True:
        async with aclosing(made._items(want, dict(seen), False)) as items:
            async for item in items:
                if isinstance(item, Resync):
                    seen = decode_position(log.cell, item.position, 1)
                    break
                assert isinstance(item, JobEvent)
                got.append(int(item.seq))
                if len(got) >= upto:
                    return returned
                if len(got) % 97 == 0:
                    await asyncio.sleep(0.01)  # slower than the log is written: behind what the tail keeps
        returned += 1
        await asyncio.sleep(0.2)


@pytest.mark.kafka
@pytest.mark.timeout(280)
async def test_a_subscription_under_restarts_of_the_broker_gets_what_the_topic_holds(
    kafka_broker: KafkaBroker, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is killed and started while events are written; the subscriber has each of them once, in order."""
    monkeypatch.setattr("jobledger.graphql.event_tail.MAX_KEPT_EVENTS", 300)
    log = EventLog(kafka_broker.bootstrap_servers, cell)
    log.write(3_000)
    log.flush()
    tail = log.tail()
    await tail.start()
    got: list[int] = []
    total = 3_000 + 3 * 2_000
    following = asyncio.ensure_future(_follow(streams(tail, CatchUp(log.reading, log.topic), cell), log, got, total))
    try:
        for _ in range(3):
            for _ in range(10):
                log.write(100)
                await asyncio.sleep(0.02)
            await asyncio.to_thread(kafka_broker.kill)
            log.write(1_000)
            await asyncio.to_thread(kafka_broker.start)
            await asyncio.to_thread(log.flush)
        await asyncio.wait_for(following, 120)
    finally:
        following.cancel()
        await tail.stop()
    assert got == list(range(1, total + 1))


@pytest.mark.kafka
async def test_who_does_not_read_holds_no_turn(
    bootstrap_servers: str, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More subscribers than turns stand still in the middle of old events; the next one gets all of them."""
    monkeypatch.setattr("jobledger.graphql.catch_up.TURN_BYTES", 20_000)
    log = EventLog(bootstrap_servers, cell)
    log.write(2_000)
    log.flush()
    catch_up = CatchUp(log.reading, log.topic)
    idle: list[AsyncIterator[list[LoggedEvent]]] = [catch_up.read({0: 0}) for _ in range(MAX_AT_ONCE + 2)]
    for one in idle:
        assert (await asyncio.wait_for(anext(one), 20))[0][1] == 1
    got: list[int] = []
    async with aclosing(catch_up.read({0: 700})) as batches, asyncio.timeout(60):
        async for batch in batches:
            got += [seq for _, seq, _, _ in batch if seq > 700]
            if not batch:
                break
    assert got == list(range(701, 2_001))
    rest = await asyncio.wait_for(anext(idle[0]), 20)
    assert rest[0][1] > 1, "who reads again goes on where he was"
