"""What an owner relies on of its log, held by the one in memory and by Kafka's alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from jobledger.eventlog.clients import producer_config, transactional_config
from jobledger.eventlog.producer import RecordProducer
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.machine import LostCommandError
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.ports import FencedError, PartitionLog, RefusedRecordError
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.replay.log import Log
from jobledger.schemas.commands import NO_COMMANDS
from jobledger.schemas.limits import MAX_MESSAGE_BYTES
from jobledger.schemas.topics import Topic
from jobledger.settings import KafkaSettings
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.ports import MemoryPartitionLog


@dataclass
class Port:
    """Makes logs of one partition, and does things to its commands.

    `gap` leaves as many offsets behind as it gives that no record will ever have; `trim` takes all before an offset.
    """

    make: Callable[[], PartitionLog]
    send: Callable[[bytes], Any]
    gap: Callable[[], Awaitable[int]]
    trim: Callable[[int], Awaitable[None]]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def port(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        broker = MemoryBroker(1)

        async def append(value: bytes) -> None:
            broker.append("c0", value)

        async def skip() -> int:
            broker.partitions[0].commands += [None, None]
            return 2

        async def forget(offset: int) -> None:
            broker.partitions[0].commands_begin = offset

        yield Port(lambda: MemoryPartitionLog(broker, 0), append, skip, forget)
        return
    cell = request.getfixturevalue("cell")
    kafka = KafkaSettings(bootstrap_servers=request.getfixturevalue("bootstrap_servers"))
    durability = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
    await asyncio.to_thread(ensure_topics, kafka.client_config(), cell, 1, durability)
    await led(KafkaPartitionLog(kafka, cell, 0, "conformance"))
    producer = RecordProducer(producer_config(kafka, "conformance"))
    await producer.start()

    async def send(value: bytes) -> None:
        await producer.send(f"{cell}.commands", 0, value)

    async def gap() -> int:
        return await asyncio.to_thread(aborted_transaction, kafka, cell)

    async def trim(offset: int) -> None:
        await asyncio.to_thread(delete_records, kafka, f"{cell}.commands", offset)

    yield Port(lambda: KafkaPartitionLog(kafka, cell, 0, "conformance"), send, gap, trim)
    await producer.stop()


async def led(log: PartitionLog) -> None:
    """New topics may have no leader for a moment; owners open again until they have."""
    async with asyncio.timeout(60):
        while True:
            try:
                await log.open(lambda records: None)
            except KafkaException as error:
                assert error.args[0].code() in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
            else:
                return await log.close()


def aborted_transaction(kafka: KafkaSettings, cell: str) -> int:
    """One record that nobody may read, and the mark that says so: two offsets, as compaction leaves them, too."""
    log = Log(kafka, cell)
    producer = Producer(transactional_config(kafka, "conformance", f"{cell}-aborts"))
    try:
        before = log.watermarks(Topic.COMMANDS, 0)[1]
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(f"{cell}.commands", b"never", partition=0)
        producer.flush(30)
        producer.abort_transaction(30)
        deadline = time.monotonic() + 30
        while (end := log.watermarks(Topic.COMMANDS, 0)[1]) < before + 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return end - before
    finally:
        log.close()


def delete_records(kafka: KafkaSettings, topic: str, offset: int) -> None:
    """As retention does."""
    admin = AdminClient(kafka.client_config())
    for done in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        done.result(30)


def plan(**state: bytes | None) -> Plan:
    checkpoint = Checkpoint(cell="c", partitions=1)
    return Plan(now_ms=1, checkpoint=checkpoint, state={key.encode(): value for key, value in state.items()})


async def state_of(log: PartitionLog) -> tuple[dict[bytes, bytes | None], Any]:
    state: dict[bytes, bytes | None] = {}
    recovered = await log.open(state.update)
    return {key: value for key, value in state.items() if value is not None}, recovered


async def test_what_is_committed_is_found_by_the_next_owner(port: Port) -> None:
    log = port.make()
    assert (await state_of(log))[0] == {}
    await log.commit(plan(a=b"1", b=b"2"))
    await log.commit(plan(a=b"3", b=None))
    await log.close()
    heir = port.make()
    state, recovered = await state_of(heir)
    assert (state, recovered.last_event_seq, recovered.commands_end) == ({b"a": b"3"}, 0, 0)
    await heir.close()


async def test_a_deposed_owner_writes_nothing(port: Port) -> None:
    old, heir = port.make(), port.make()
    await state_of(old)
    await state_of(heir)
    with pytest.raises(FencedError):
        await old.commit(plan(a=b"old"))
    await heir.commit(plan(b=b"heir"))
    await old.close()
    await heir.close()
    last = port.make()
    assert (await state_of(last))[0] == {b"b": b"heir"}
    await last.close()


async def test_a_record_over_the_bound_is_refused_and_takes_its_transaction_along(port: Port) -> None:
    log = port.make()
    await state_of(log)
    await log.commit(plan(fits=b"x" * (MAX_MESSAGE_BYTES - 200)))
    with pytest.raises(RefusedRecordError):
        await log.commit(plan(small=b"1", large=b"x" * (MAX_MESSAGE_BYTES + 1)))
    await log.close()
    heir = port.make()
    assert set((await state_of(heir))[0]) == {b"fits"}
    await heir.close()


async def test_commands_are_read_from_any_offset_in_order(port: Port) -> None:
    log = port.make()
    await state_of(log)
    assert await log.commands_from(0, 10) == []
    for number in range(5):
        await port.send(b"%d" % number)
    assert await log.commands_from(1, 3) == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert await log.commands_from(4, 10) == [(4, b"4")]
    assert await log.commands_from(5, 10) == []
    await log.close()
    heir = port.make()
    assert (await state_of(heir))[1].commands_end == 5
    await heir.close()


async def test_offsets_without_a_record_count_as_records_without_commands(port: Port) -> None:
    """At the beginning, in between and at the end, from any offset, however many are asked for at a time."""
    log = port.make()
    await state_of(log)
    expected: list[tuple[int, bytes]] = []
    for number in range(3):
        expected += [(len(expected) + place, NO_COMMANDS) for place in range(await port.gap())]
        await port.send(b"%d" % number)
        expected.append((len(expected), b"%d" % number))
    expected += [(len(expected) + place, NO_COMMANDS) for place in range(await port.gap())]
    assert await log.commands_from(0, 100) == expected
    for offset in range(len(expected) + 1):
        for limit in (1, 2, 4):
            assert await log.commands_from(offset, limit) == expected[offset : offset + limit], (offset, limit)
    await log.close()
    heir = port.make()
    assert (await state_of(heir))[1].commands_end == len(expected)
    await heir.close()


async def test_a_log_that_begins_later_gives_its_first_records_and_an_empty_one_an_error(port: Port) -> None:
    """Whoever decides them sees by their offsets that some are missing."""
    log = port.make()
    await state_of(log)
    for number in range(4):
        await port.send(b"%d" % number)
    await port.trim(2)
    assert await log.commands_from(0, 1) == [(2, b"2")]
    assert await log.commands_from(1, 10) == [(2, b"2"), (3, b"3")]
    assert await log.commands_from(3, 10) == [(3, b"3")]
    await port.trim(4)
    with pytest.raises(LostCommandError):
        await log.commands_from(1, 10)
    assert await log.commands_from(4, 10) == []
    await log.close()
