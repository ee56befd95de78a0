"""Parts of a scheduler that die: the process ends with the reason, or the part heals by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from log_cell import until

from jobledger.eventlog.clients import producer_config
from jobledger.eventlog.producer import RecordProducer
from jobledger.processors.clock import SystemClock
from jobledger.processors.gauges import Gauges
from jobledger.processors.relay import KafkaRelay
from jobledger.settings import KafkaSettings
from jobledger.telemetry.metrics import Metrics

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:9", replication_factor=1, min_insync_replicas=1)
CONFIG = producer_config(NOWHERE, "test")


class Fatal:
    """A client whose deliveries all fail for good."""

    def produce(self, *_: Any, on_delivery: Any, headers: Any) -> None:
        on_delivery(KafkaError(KafkaError._FATAL, "out of order", fatal=True), self)

    def offset(self) -> None:
        return None

    def poll(self, _seconds: float) -> None:
        pass

    def flush(self, _seconds: float) -> None:
        pass


class Broken(Fatal):
    """A client that cannot even be asked."""

    def poll(self, _seconds: float) -> None:
        raise MemoryError("no more")


async def test_a_producer_without_its_thread_says_so() -> None:
    """No delivery would be learnt of any more: whoever runs it ends."""
    producer = RecordProducer(CONFIG)
    producer._producer = Broken()  # type: ignore[assignment]
    await producer.start()
    with pytest.raises(MemoryError):
        await asyncio.wait_for(producer.wait(), 10)
    assert not producer.usable
    await producer.stop()


async def test_a_producer_after_a_fatal_error_says_so() -> None:
    """Every later record would fail too."""
    producer = RecordProducer(CONFIG)
    await producer.start()
    producer._producer, real = Fatal(), producer._producer  # type: ignore[assignment]
    sent = producer.send("t", 0, b"")
    with pytest.raises(KafkaException):
        await asyncio.wait_for(producer.wait(), 10)
    assert sent.exception() is not None
    producer._producer = real
    await producer.stop()


async def test_a_producer_that_is_stopped_has_ended_well() -> None:
    """`wait()` returns."""
    producer = RecordProducer(CONFIG)
    await producer.start()
    assert producer.usable
    waiting = asyncio.ensure_future(producer.wait())
    await producer.stop()
    await asyncio.wait_for(waiting, 10)


@pytest.mark.scenario("a partition misses commands", emits=("outbox_resent",))
async def test_a_relay_whose_producer_has_died_makes_a_new_one() -> None:
    """It heals by itself, and its entries are sent again."""
    relay = KafkaRelay(CONFIG, "t")
    await relay.start()
    first: Any = relay._transport
    first._producer._stopping.set()
    await until(lambda: relay._transport is not first and not relay.renewing, 30)
    second: Any = relay._transport
    assert second.usable
    waiting = asyncio.ensure_future(relay.wait())
    await relay.stop()
    await asyncio.wait_for(waiting, 10)


async def test_a_relay_that_cannot_have_a_new_transport_ends_its_process() -> None:
    """Nothing would be sent any more, in silence."""
    relay = KafkaRelay(CONFIG, "t")
    await relay.start()

    def refuse() -> Any:
        raise OSError("too many open files")

    relay._make_transport = refuse
    relay._renew(RuntimeError("a delivery failed"))
    with pytest.raises(OSError, match="too many open files"):
        await asyncio.wait_for(relay.wait(), 20)
    await relay.stop()


async def test_gauges_that_cannot_look_end_their_process() -> None:
    """What stands still looks like peace."""

    def broken() -> Any:
        raise RuntimeError("a machine that cannot be looked at")

    gauges = Gauges(broken, Metrics("scheduler", instance_id="s"), SystemClock())
    await gauges.start()
    with pytest.raises(RuntimeError, match="cannot be looked at"):
        await asyncio.wait_for(gauges.wait(), 10)
    await gauges.stop()
