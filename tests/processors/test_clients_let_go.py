"""Whoever stops lets go of its clients of Kafka at once, with their threads and connections."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import pytest
from cell_owners import CellOwners

from jobledger.settings import KafkaSettings

pytestmark = pytest.mark.kafka


def _client_threads() -> int:
    """Threads of librdkafka in this process."""
    found = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found += (thread / "comm").read_text().startswith("rdk:")
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux names them")
async def test_a_scheduler_that_stopped_has_no_client_left(bootstrap_servers: str, cell: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, replication_factor=1, min_insync_replicas=1)
    gc.collect()
    before = _client_threads()
    owners = CellOwners(kafka, cell, 2)
    await owners.start()
    assert _client_threads() > before + 10
    await owners.stop()
    assert _client_threads() <= before
