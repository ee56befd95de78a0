"""The feed has no tables: Faust's second of waiting for some is left out, and nothing else of their start."""

from __future__ import annotations

import inspect

from faust.tables.manager import TableManager

from jobledger.processors.feed import CommandFeed, FeedConfig
from jobledger.settings import KafkaSettings


async def _assigned(partitions: set[int]) -> None:
    pass


def test_the_start_of_the_tables_is_fausts_own_but_for_the_wait() -> None:
    """Line by line; a Faust that starts its tables in another way is to be looked at anew."""
    config = FeedConfig(
        cell="c",
        partitions=1,
        client_id="x",
        instance_id="",
        session_timeout_seconds=6,
        kafka=KafkaSettings(),
        offer=lambda partition, offset, value: None,
        assigned=_assigned,
        next_offset=lambda partition: None,
    )
    tables = CommandFeed(config).app.tables
    theirs, ours = (
        [line.strip() for line in inspect.getsource(method).splitlines() if "await" in line or "if " in line]
        for method in (TableManager.on_start, type(tables).on_start)
    )
    assert theirs == ["await self.sleep(1.0)", "if not self.should_stop:", *ours] and len(ours) == 2
