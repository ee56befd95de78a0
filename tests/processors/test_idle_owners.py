"""What a broker's restart breaks is found by owners without work, not by the first command."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from log_cell import LogCell, submit

from jobledger.dev.kafka import KafkaBroker
from jobledger.processors.kafka_log import STUCK_OFFSET_SECONDS, STUCK_SECONDS
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.topics import Topic
from jobledger.settings import Settings

pytestmark = [pytest.mark.kafka]

#: A broker that is back has its idle partitions back after this long.
HEALED_SECONDS = 10.0
#: A first command that finds its partition broken took over six seconds.
AT_ONCE_SECONDS = 2.0


def test_an_owner_gives_up_a_call_before_an_api_gives_up_waiting() -> None:
    """Else one call that never comes back is PENDING for whoever waits."""
    waits = Settings().mutation_timeout_seconds
    assert waits > STUCK_SECONDS
    assert waits / 1.5 > STUCK_OFFSET_SECONDS, "with a new opening after it"


async def test_after_a_restart_of_the_broker_idle_partitions_answer_at_once(
    kafka_broker: KafkaBroker, log_cell: LogCell, start_scheduler: Any
) -> None:
    """Nobody asks anything for ten seconds; then the first command of each partition is decided without delay."""
    await start_scheduler("scheduler-1")
    for p in range(4):
        await log_cell.ask(log_cell.job_on(p), submit(queue=log_cell.queue_on(p)))
    await asyncio.to_thread(kafka_broker.kill)
    await asyncio.to_thread(kafka_broker.start)
    await asyncio.sleep(HEALED_SECONDS)  # the promise is a time
    took = {}
    for p in range(4):
        begun = time.monotonic()
        outcome = await log_cell.ask(log_cell.job_on(p), submit(queue=log_cell.queue_on(p)))
        took[p] = time.monotonic() - begun
        assert outcome.status is OutcomeStatus.ACCEPTED
    print(took)
    assert max(took.values()) < AT_ONCE_SECONDS, took


async def test_an_idle_partition_writes_its_checkpoint_now_and_then(log_cell: LogCell, start_owner: Any) -> None:
    """Also without a sign that a broker was away: what one broker of several lost shows itself."""
    one = await start_owner(0)
    before = len(log_cell.records(Topic.STATE, 0))
    deadline = time.monotonic() + 30
    while len(log_cell.records(Topic.STATE, 0)) == before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)
    assert one.observer.reopenings == []
