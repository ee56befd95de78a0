"""An opening has whom to ask for its transaction coordinator: whoever has nobody asks again half a second later."""

from __future__ import annotations

import asyncio
import logging
import uuid

import pytest
from log_cell import LogCell

from jobledger.processors.kafka_log import KafkaPartitionLog

pytestmark = [pytest.mark.kafka]

ROUNDS = 8


class Heard(logging.Handler):
    """What the client says of its transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


async def open_one(cell: LogCell, partition: int) -> list[str]:
    """Open and close a partition that nobody else opens; gives the questions that went to nobody."""
    heard, logger = Heard(), logging.Logger(uuid.uuid4().hex)
    logger.addHandler(heard)
    log = KafkaPartitionLog(cell.kafka, cell.cell, partition, "test")
    log._producer_config = {**log._producer_config, "debug": "eos", "logger": logger}
    await log.open(lambda records: None)
    assert log._producer is not None
    log._producer.poll(0)
    await log.close()
    return [message for message in heard.said if "Unable to query for transaction coordinator" in message]


async def test_openings_at_the_same_time_find_their_coordinator_at_once(log_cell: LogCell) -> None:
    """A producer that the broker does not know, and one that it knows, four at a time as after a rebalance."""
    await open_one(log_cell, 0)  # the first one of all waits until the coordinator has loaded its part
    for _ in range(ROUNDS):
        for asked in await asyncio.gather(*(open_one(log_cell, partition) for partition in range(4))):
            assert asked == []
