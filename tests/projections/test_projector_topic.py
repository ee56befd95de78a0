"""Positions count in one topic: another one of the same name is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobledger.projections.event_batch import ProjectionStoppedError
from jobledger.projections.projector import Projector

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
Start = Callable[..., Awaitable[Projector]]


async def test_positions_of_another_topic_are_refused_until_told_otherwise(
    start: Start, log: Any, history: Any, tables: Any, until: Any
) -> None:
    """Also when the new topic reaches further: its events would be taken for those that follow."""
    log.write_all(history)
    first = await start(topic_id="one")
    await until(lambda: tables.vector() == history.vector)
    await first.stop()
    second = await start(topic_id="two")
    with pytest.raises(ProjectionStoppedError, match=r"was deleted and made anew \(its id was one, now it is two\)"):
        await asyncio.wait_for(second.wait(), 30)
    third = await start(topic_id="two", accept_new_topics=True)
    await until(lambda: len(third.positions) == 4)
    await third.stop()
    fourth = await start(topic_id="two")
    await until(lambda: len(fourth.positions) == 4)
    tables.check(history)
