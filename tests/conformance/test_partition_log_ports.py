"""What an owner relies on of its log, held by the one in memory and by Kafka's alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from jobledger.eventlog.clients import producer_config
from jobledger.eventlog.producer import RecordProducer
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.ports import FencedError, PartitionLog, RefusedRecordError
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.schemas.limits import MAX_MESSAGE_BYTES
from jobledger.settings import KafkaSettings
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.ports import MemoryPartitionLog


@dataclass
class Port:
    """Makes logs of one partition, and writes to its commands."""

    make: Callable[[], PartitionLog]
    send: Callable[[bytes], Any]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def port(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        broker = MemoryBroker(1)

        async def append(value: bytes) -> None:
            broker.append("c0", value)

        yield Port(lambda: MemoryPartitionLog(broker, 0), append)
        return
    cell = request.getfixturevalue("cell")
    kafka = KafkaSettings(bootstrap_servers=request.getfixturevalue("bootstrap_servers"))
    durability = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
    await asyncio.to_thread(ensure_topics, kafka.client_config(), cell, 1, durability)
    producer = RecordProducer(producer_config(kafka, "conformance"))
    await producer.start()

    async def send(value: bytes) -> None:
        await producer.send(f"{cell}.commands", 0, value)

    yield Port(lambda: KafkaPartitionLog(kafka, cell, 0, "conformance"), send)
    await producer.stop()


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
