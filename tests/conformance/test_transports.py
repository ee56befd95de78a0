"""What the relay relies on of what carries its entries, held by the network of the simulator and by Kafka alike."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from jobledger.dev.kafka import KafkaBroker
from jobledger.eventlog.clients import producer_config
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.processors.core.plan import OutboxEntry
from jobledger.processors.core.relay import OutboxRelay, Transport, TransportError
from jobledger.processors.relay import KafkaTransport
from jobledger.replay.log import Log
from jobledger.schemas.limits import MAX_MESSAGE_BYTES
from jobledger.schemas.topics import Topic
from jobledger.settings import KafkaSettings
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.network import Network
from jobledger.simulator.ports import MemoryTransport

PARTITIONS = 2
TOPICS = {"c": Topic.COMMANDS, "t": Topic.TASKS, "q": Topic.QUARANTINE}
DESTINATIONS = ("c0", "c1", "t3", "q0")


@dataclass
class Carrier:
    """Makes transports to the same destinations. While they are held nothing arrives; `fail`: a delivery of the newest
    transport fails that is under way. `standing`: what has arrived at a destination, in its order there.
    """

    new: Callable[[int], Transport]
    hold: Callable[[], None]
    release: Callable[[], None]
    fail: Callable[[Transport], Awaitable[None]]
    standing: Callable[[str], Awaitable[list[bytes]]]
    made: list[Transport] = field(default_factory=list)

    def make(self) -> Transport:
        self.made.append(self.new(len(self.made)))
        return self.made[-1]


def in_memory() -> Carrier:
    broker = MemoryBroker(PARTITIONS)
    network = Network(broker)

    async def fail(transport: Transport) -> None:
        assert isinstance(transport, MemoryTransport)
        assert network.fail(transport.name)

    async def standing(destination: str) -> list[bytes]:
        place = int(destination[1:])
        found = {"c": broker.partitions[place % PARTITIONS].commands, "t": broker.tasks[place], "q": broker.quarantine}
        return [value for value in found[destination[0]] if value is not None]

    return Carrier(
        new=lambda number: MemoryTransport(f"relay-{number}", network, broker),
        hold=lambda: network.held.update(dict.fromkeys(f"relay-{number}" for number in range(9))),
        release=network.deliver_all,
        fail=fail,
        standing=standing,
    )


def on_kafka(broker: KafkaBroker, cell: str) -> Carrier:
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    durability = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
    ensure_topics(kafka.client_config(), cell, PARTITIONS, durability)

    def hold() -> None:
        os.kill(broker.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while psutil.Process(broker.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline

    async def fail(transport: Transport) -> None:
        assert isinstance(transport, KafkaTransport)
        await asyncio.to_thread(transport._producer._producer.purge)  # the client gives up on all that it has

    def read(destination: str) -> list[bytes]:
        topic, partition, log = TOPICS[destination[0]], int(destination[1:]), Log(kafka, cell)
        try:
            found = []
            for message in log.read(topic, partition, log.watermarks(topic, partition)[0]):
                if message is None:
                    break
                found.append(message.value() or b"")
            return found
        finally:
            log.close()

    return Carrier(
        new=lambda number: KafkaTransport(producer_config(kafka, f"relay-{number}"), cell),
        hold=hold,
        release=lambda: os.kill(broker.pid, signal.SIGCONT),
        fail=fail,
        standing=lambda destination: asyncio.to_thread(read, destination),
    )


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def carrier(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        one = in_memory()
    else:
        broker = request.getfixturevalue("kafka_broker")
        one = await asyncio.to_thread(on_kafka, broker, request.getfixturevalue("cell"))
    yield one
    one.release()
    for transport in one.made:
        await transport.stop()


def values(numbers: range) -> list[bytes]:
    return [b"%d" % number for number in numbers]


class Outbox:
    """What an owner has to send: numbers `first` to `last` for each destination."""

    partition = 0

    def __init__(self) -> None:
        self.left: dict[bytes, OutboxEntry] = {}
        self.acknowledged: list[OutboxEntry] = []
        self.empty = asyncio.Event()

    def add(self, first: int, last: int) -> list[tuple[bytes, OutboxEntry]]:
        numbers = range(first, last + 1)
        entries = [OutboxEntry(to, number, b"%d" % number) for number in numbers for to in DESTINATIONS]
        added = [(entry.key, entry) for entry in entries]
        self.left.update(added)
        self.empty.clear()
        return added

    def unacknowledged(self) -> list[tuple[bytes, OutboxEntry]]:
        return list(self.left.items())

    def acknowledge(self, key: bytes) -> None:
        self.acknowledged.append(self.left.pop(key))
        if not self.left:
            self.empty.set()


def taken(standing: list[bytes]) -> list[int]:
    """What a receiver takes of what has come to it: the next number each time, no repeat, nothing beyond a gap."""
    last = 0
    for number in map(int, standing):
        if number == last + 1:
            last = number
    return list(range(1, last + 1))


async def test_the_order_is_kept_for_each_destination(carrier: Carrier) -> None:
    transport = carrier.make()
    await transport.start()
    entries = [OutboxEntry(to, number, b"%d" % number) for number in range(1, 101) for to in DESTINATIONS]
    await asyncio.wait_for(asyncio.gather(*map(transport.send, entries)), 60)
    for destination in DESTINATIONS:
        assert await carrier.standing(destination) == values(range(1, 101))


async def test_nothing_is_acknowledged_before_it_has_arrived(carrier: Carrier) -> None:
    transport = carrier.make()
    await transport.start()
    await transport.send(OutboxEntry("c1", 1, b"1"))
    carrier.hold()
    sent = [transport.send(OutboxEntry("c1", number, b"%d" % number)) for number in range(2, 5)]
    done, _ = await asyncio.wait(sent, timeout=1)
    assert not done
    carrier.release()
    for number, one in enumerate(sent, 2):
        await asyncio.wait_for(one, 60)
        assert (await carrier.standing("c1"))[:number] == values(range(1, number + 1))


async def test_a_stop_waits_for_what_is_under_way_and_may_come_twice(carrier: Carrier) -> None:
    transport = carrier.make()
    await transport.start()
    await transport.send(OutboxEntry("t3", 1, b"1"))
    carrier.hold()
    sent = [transport.send(OutboxEntry("t3", number, b"%d" % number)) for number in range(2, 51)]
    stopping = asyncio.create_task(transport.stop())
    done, _ = await asyncio.wait([stopping], timeout=0.5)
    assert not done
    carrier.release()
    await stopping
    await transport.stop()
    await asyncio.wait_for(asyncio.gather(*sent), 10)
    assert await carrier.standing("t3") == values(range(1, 51))


async def test_what_is_larger_than_a_record_may_be_is_not_taken_and_holds_up_nothing(carrier: Carrier) -> None:
    transport = carrier.make()
    await transport.start()
    first = transport.send(OutboxEntry("c0", 1, b"1"))
    with pytest.raises(TransportError):
        transport.send(OutboxEntry("c0", 2, b"x" * (MAX_MESSAGE_BYTES + 1)))
    last = transport.send(OutboxEntry("c0", 2, b"2"))
    await asyncio.wait_for(asyncio.gather(first, last), 60)
    assert await carrier.standing("c0") == [b"1", b"2"]


async def test_a_delivery_that_fails_raises(carrier: Carrier) -> None:
    transport = carrier.make()
    await transport.start()
    await transport.send(OutboxEntry("q0", 1, b"1"))
    carrier.hold()
    sent = transport.send(OutboxEntry("q0", 2, b"2"))
    await carrier.fail(transport)
    with pytest.raises(Exception, match=r"given up|[Pp]urge"):
        await asyncio.wait_for(sent, 60)


async def test_after_a_failure_all_that_has_not_arrived_is_sent_again_in_order(carrier: Carrier) -> None:
    """Through a new transport; each receiver gets every number once, and no entry is forgotten before that."""
    reasons: asyncio.Queue[str] = asyncio.Queue()
    relay, outbox = OutboxRelay(carrier.make, reasons.put_nowait), Outbox()
    await relay.start()
    outbox.add(1, 10)
    relay.register(outbox)
    await asyncio.wait_for(outbox.empty.wait(), 60)
    carrier.hold()
    relay.send(outbox, outbox.add(11, 20))
    await carrier.fail(carrier.made[-1])
    assert await asyncio.wait_for(reasons.get(), 60)
    relay.send(outbox, outbox.add(21, 30))  # while it has no transport
    assert len(outbox.acknowledged) == 10 * len(DESTINATIONS)
    carrier.release()
    await asyncio.wait_for(outbox.empty.wait(), 60)
    assert reasons.empty() and len(carrier.made) == 2 and not relay.renewing
    relay.send(outbox, outbox.add(31, 40))
    await asyncio.wait_for(outbox.empty.wait(), 60)
    for destination in DESTINATIONS:
        assert taken(await carrier.standing(destination)) == list(range(1, 41))
        mine = [entry.number for entry in outbox.acknowledged if entry.destination == destination]
        assert mine == list(range(1, 41)), "each was acknowledged once, in order"
    await relay.stop()
