"""No command leaves an api before it has seen the topics, or before the cell is written in its format level."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from jobledger.domain.levels import NEWEST, OLDEST
from jobledger.domain.queue.commands import QueryQueue
from jobledger.domain.values import SYSTEM, Code
from jobledger.graphql.gateway import NOT_SENT, Gateway
from jobledger.graphql.level_gate import ASK_AGAIN_SECONDS, LevelGate
from jobledger.graphql.outcomes import Waiter
from jobledger.graphql.topic_gate import TopicGate
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome
from jobledger.telemetry.metrics import Metrics


class Sent:
    """A producer that notes what it is given."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def send(self, command: Command) -> asyncio.Future[int]:
        self.commands.append(command)
        return asyncio.get_running_loop().create_future()


class NoOutcomes:
    """A tail that never has one."""

    class _Waiter(Waiter):
        async def wait(self, timeout: float) -> None:
            pass

    def expect(self, ids: list[str]) -> Waiter:
        return self._Waiter(ids)

    def give_up(self, waiter: Any) -> None:
        pass


QUESTION = Command(id="c", stream="queue:t:q", actor=SYSTEM, body=QueryQueue(), reply=True)


def gateway_over(levels: LevelGate, gate: TopicGate | None = None) -> tuple[Gateway, Sent]:
    """Waits a tenth of a second for outcomes, which never come; without a gate the topics have been seen."""
    if gate is None:
        gate = TopicGate({}, "c", [], 4)
        gate._seen.set()
    producer = Sent()
    metrics, outcomes = Metrics("api", instance_id="t"), cast("Any", NoOutcomes())
    return Gateway(cast("Any", producer), outcomes, 0.1, gate.opened, levels.enabled, metrics), producer


async def test_commands_wait_for_the_topics_and_are_pending_without_them() -> None:
    """What was not sent is pending, and may be sent again under the same id."""
    gate = TopicGate({}, "c", [], 4)
    gateway, producer = gateway_over(LevelGate(lambda: OLDEST, time.monotonic), gate)
    assert await gateway.decide([QUESTION]) == [None]
    assert producer.commands == []
    waiting = asyncio.ensure_future(gateway.decide([QUESTION], 10))
    await asyncio.sleep(0.05)
    assert producer.commands == []
    gate._seen.set()
    assert await waiting == [None]
    assert producer.commands == [QUESTION]


class Cell:
    """A cell whose level a test says, and how often it was asked for."""

    def __init__(self) -> None:
        self.level, self.asked, self.now = OLDEST, 0, 0.0

    def lowest(self) -> int:
        self.asked += 1
        return self.level


async def test_a_level_is_asked_for_when_it_is_too_low_and_not_again_at_once() -> None:
    cell = Cell()
    gate = LevelGate(cell.lowest, lambda: cell.now)
    assert await gate.enabled(OLDEST) and cell.asked == 0
    assert not await gate.enabled(NEWEST) and not await gate.enabled(NEWEST) and cell.asked == 1
    cell.level, cell.now = NEWEST, ASK_AGAIN_SECONDS
    assert await gate.enabled(NEWEST) and await gate.enabled(NEWEST) and cell.asked == 2


async def test_a_command_of_a_newer_level_is_refused_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words of the owner, who would say the same of its events."""
    cell = Cell()
    gateway, producer = gateway_over(LevelGate(cell.lowest, lambda: cell.now))
    monkeypatch.setattr(QueryQueue, "format_level", NEWEST)
    (refused,) = await gateway.decide([QUESTION])
    assert isinstance(refused, Outcome) and refused.rejection is not None
    assert refused.rejection.code is Code.NOT_ENABLED and "jobledger cluster enable" in refused.rejection.message
    assert producer.commands == []
    cell.level, cell.now = NEWEST, ASK_AGAIN_SECONDS
    assert await gateway.decide([QUESTION]) == [None] and producer.commands == [QUESTION]


async def test_nothing_is_sent_while_the_level_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> int:
        raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))

    gateway, producer = gateway_over(LevelGate(away, lambda: 0.0))
    monkeypatch.setattr(QueryQueue, "format_level", NEWEST)
    assert await gateway.decide([QUESTION]) == [NOT_SENT] and producer.commands == []
