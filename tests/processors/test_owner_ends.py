"""An owner that is closed while it opens its partition."""

from __future__ import annotations

import asyncio
import threading
import time

from log_cell import Alive, Quiet, until

from jobledger.eventlog.clients import producer_config
from jobledger.processors.clock import SystemClock
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.processors.owners import OwnerSet
from jobledger.processors.relay import KafkaRelay
from jobledger.settings import KafkaSettings

#: Nobody listens there: an opening waits for its broker.
NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:9", replication_factor=1, min_insync_replicas=1)


def owner_of_nothing(partition: int) -> Owner:
    config = OwnerConfig(cell="t", partitions=2, limits=Limits(), lease_seconds=10)
    log = KafkaPartitionLog(NOWHERE, "t", partition, "test")
    relay = KafkaRelay(producer_config(NOWHERE, "test"), "t")
    return Owner(partition, config, log, relay, Alive(), SystemClock(), Quiet(), asyncio.Semaphore(8))


def opening_threads() -> int:
    return sum(thread.name == "kafka-call" for thread in threading.enumerate())


async def test_a_rebalance_does_not_wait_for_the_opening_of_a_partition_that_has_gone() -> None:
    """Closing interrupts the opening, and the thread of it ends soon: nothing of it fences a later owner."""
    before = opening_threads()
    owners = OwnerSet(owner_of_nothing)
    await owners.start()
    await owners.assigned({0, 1})
    await until(lambda: opening_threads() == before + 2)
    begun = time.monotonic()
    await owners.assigned({0})
    assert time.monotonic() - begun < 2
    assert set(owners.owners) == {0}
    await owners.stop()
    assert time.monotonic() - begun < 4
    await until(lambda: opening_threads() == before)
