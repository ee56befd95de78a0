"""Workers look at the cell before they take or send anything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from worker_cell import PARTITIONS

from jobledger.eventlog.topics import Durability, TopicError, ensure_topics
from jobledger.settings import KafkaSettings
from jobledger.workers.cell_check import CellCheck

pytestmark = pytest.mark.kafka

DEV = Durability(replication_factor=1, min_insync_replicas=1, dev=True)


async def test_topics_that_are_not_there_yet_are_waited_for(bootstrap_servers: str, cell: str) -> None:
    """Whoever starts before the first scheduler goes on once it has made the topics."""
    config = KafkaSettings(bootstrap_servers=bootstrap_servers).client_config()
    check = CellCheck(config, cell, PARTITIONS)
    starting = asyncio.create_task(check.start())
    async with asyncio.timeout(30):
        while not check._told:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.02)
    assert "does not exist (yet)" in check._told and not starting.done()
    await asyncio.to_thread(ensure_topics, config, cell, PARTITIONS, DEV)
    await asyncio.wait_for(starting, 30)
    assert check.refusal == ""


@pytest.mark.parametrize("setting", [1, 3, 16])
async def test_another_number_of_partitions_is_refused(owners: Any, setting: int) -> None:
    """What is sent by the wrong number goes to owners that know nothing of it."""
    check = CellCheck(owners.kafka.client_config(), owners.cell, setting)
    with pytest.raises(TopicError, match=f"has {PARTITIONS} partitions, but JOBLEDGER_PARTITIONS is {setting}"):
        await check.start()


async def test_a_worker_with_the_wrong_number_ends_with_one_sentence(
    owners: Any, start_role: Any, tmp_path: Path
) -> None:
    """Exit status 2; it has registered nowhere and told nobody anything."""
    process = start_role("w-1", JOBLEDGER_PARTITIONS="16")
    assert await asyncio.to_thread(process.wait, 60) == 2
    lines = [line for line in (tmp_path / "w-1.log").read_text().splitlines() if not line.startswith("{")]
    assert lines == [
        f"Topic '{owners.cell}.commands' has {PARTITIONS} partitions, but JOBLEDGER_PARTITIONS is 16: what was sent "
        f"would go astray. Set it to {PARTITIONS}, the number that the cell was made with, or name another cell in "
        f"JOBLEDGER_CELL."
    ]
    assert owners.commands == []
