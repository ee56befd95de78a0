"""The relay sends outbox entries until they have arrived, also when its producer can't take them all at once."""

from __future__ import annotations

import asyncio

import pytest

from jobledger.eventlog.clients import producer_config
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.processors.core.plan import OutboxEntry
from jobledger.processors.core.state_records import outbox_key
from jobledger.processors.relay import KafkaRelay
from jobledger.settings import KafkaSettings

ENTRIES = 200


class Holder:
    """An owner's outbox."""

    partition = 0

    def __init__(self) -> None:
        entries = [OutboxEntry("q0", number, b"[]") for number in range(1, ENTRIES + 1)]
        self.empty = asyncio.Event()
        self.left = {outbox_key(entry.destination, entry.number): entry for entry in entries}

    def unacknowledged(self) -> list[tuple[bytes, OutboxEntry]]:
        return list(self.left.items())

    def acknowledge(self, key: bytes) -> None:
        self.left.pop(key, None)
        if not self.left:
            self.empty.set()


@pytest.mark.kafka
async def test_an_outbox_larger_than_the_producers_queue_arrives(bootstrap_servers: str, cell: str) -> None:
    """Deliveries before the queue was full count: each round sends only what is left."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers)
    durability = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
    await asyncio.to_thread(ensure_topics, kafka.client_config(), cell, 1, durability)
    relay = KafkaRelay({**producer_config(kafka, "relay"), "queue.buffering.max.messages": 60}, cell)
    holder = Holder()
    await relay.start()
    try:
        relay.register(holder)
        async with asyncio.timeout(30):
            await holder.empty.wait()
    finally:
        await relay.stop()
