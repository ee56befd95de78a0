"""Whoever stops lets go of its clients of Kafka at once, with their threads and connections."""

from __future__ import annotations

import gc

import pytest
from cell_owners import CellOwners
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from jobledger.settings import KafkaSettings

pytestmark = pytest.mark.kafka


def _clients() -> int:
    """Clients in this process; each has threads and connections as long as it is there."""
    return sum(isinstance(one, Producer | Consumer | AdminClient) for one in gc.get_objects())


async def test_a_scheduler_that_stopped_has_no_client_left(bootstrap_servers: str, cell: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, replication_factor=1, min_insync_replicas=1)
    gc.collect()
    before = _clients()
    owners = CellOwners(kafka, cell, 2)
    await owners.start()
    assert _clients() > before + 6
    await owners.stop()
    assert _clients() <= before
