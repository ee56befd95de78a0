"""A commit that was given up and comes back has nothing to do with the producer that stands in its place by then."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from jobledger.processors import kafka_log
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.plan import Plan
from jobledger.processors.kafka_log import KafkaPartitionLog, StuckError
from jobledger.settings import KafkaSettings


class Scripted:
    """A producer that notes what is asked of it; `begin_transaction` comes back when it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go, self.ended = threading.Event(), threading.Event()

    def begin_transaction(self) -> None:
        self.let_go.wait(10)
        self.asked.append("begin")

    def produce(self, *_: Any, **__: Any) -> None:
        self.asked.append("produce")

    def commit_transaction(self, _: float) -> None:
        self.asked.append("commit")
        self.ended.set()


async def test_a_late_commit_ends_its_own_transaction_and_not_that_of_its_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The successor may stand in the middle of another one, of which a part would be committed alone."""
    monkeypatch.setattr(kafka_log, "STUCK_SECONDS", 0.05)
    log = KafkaPartitionLog(KafkaSettings(), "cell", 0, "owner")
    log._group_offset_at = float("inf")
    first, second = Scripted(), Scripted()
    log._producer = cast("Any", first)
    plan = Plan(now_ms=0, checkpoint=Checkpoint(cell="cell", partitions=1), state={b"s|x": b"1"})
    with pytest.raises(StuckError):
        await log.commit(plan)
    log._producer = cast("Any", second)
    first.let_go.set()
    assert await asyncio.to_thread(first.ended.wait, 10)
    assert (first.asked, second.asked) == (["begin", "produce", "commit"], [])
