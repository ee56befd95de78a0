"""No command leaves an api before it has seen the topics."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from jobledger.domain.queue.commands import QueryQueue
from jobledger.domain.values import SYSTEM
from jobledger.graphql.gateway import Gateway
from jobledger.graphql.outcomes import Waiter
from jobledger.graphql.topic_gate import TopicGate
from jobledger.schemas.commands import Command


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


async def test_commands_wait_for_the_topics_and_are_pending_without_them() -> None:
    """What was not sent is pending, and may be sent again under the same id."""
    gate, producer = TopicGate({}, "c", [], 4), Sent()
    gateway = Gateway(cast("Any", producer), cast("Any", NoOutcomes()), 0.1, gate.opened)
    command = Command(id="c", stream="queue:t:q", actor=SYSTEM, body=QueryQueue(), reply=True)
    assert await gateway.decide([command]) == [None]
    assert producer.commands == []
    waiting = asyncio.ensure_future(gateway.decide([command], 10))
    await asyncio.sleep(0.05)
    assert producer.commands == []
    gate._seen.set()
    assert await waiting == [None]
    assert producer.commands == [command]
