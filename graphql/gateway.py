"""Sends commands and waits for their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobledger.domain.commands import AnyCommand
from jobledger.domain.values import SYSTEM
from jobledger.eventlog.producer import BackpressureError, CommandProducer
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome


class NotSent:
    """What became of a command that never left this process."""


NOT_SENT: Final = NotSent()
#: None: it may have been sent, and no outcome came in time.
Decided = Outcome | NotSent | None
#: Waits, at most so many seconds, until commands may be sent; see TopicGate.
Opened = Callable[[float], Awaitable[bool]]


class Gateway:
    """Commands out, outcomes in."""

    def __init__(self, producer: CommandProducer, tail: OutcomeTail, timeout_seconds: float, opened: Opened) -> None:
        self._producer = producer
        self._tail = tail
        self._opened = opened
        self.timeout_seconds = timeout_seconds

    async def decide(self, commands: Sequence[Command], timeout: float | None = None) -> list[Decided]:
        """Send and wait, at most the mutation time-out; the answers are in the order of the commands."""
        if not commands:
            return []
        seconds = self.timeout_seconds if timeout is None else timeout
        if not await self._opened(seconds):
            return [None] * len(commands)  # never sent, so the same ids again do no harm
        waiter = self._tail.expect([command.id for command in commands])
        unsent: set[int] = set()
        for index, command in enumerate(commands):
            try:
                self._producer.send(command).add_done_callback(_look)
            except BackpressureError:
                unsent.add(index)
                waiter.settle(index, None)
        try:
            await waiter.wait(seconds)
        finally:
            self._tail.give_up(waiter)
        if not unsent:
            return list(waiter.outcomes)
        return [
            NOT_SENT if index in unsent and outcome is None else outcome
            for index, outcome in enumerate(waiter.outcomes)
        ]

    async def ask(self, stream: str, body: AnyCommand, command_id: str, timeout: float) -> Outcome | None:
        """Ask the owner of a stream a query; None when it does not answer in time."""
        command = Command(id=command_id, stream=stream, actor=SYSTEM, body=body, reply=True)
        (decided,) = await self.decide([command], timeout)
        return decided if isinstance(decided, Outcome) else None


def _look(sent: asyncio.Future[None]) -> None:
    """A failed delivery leaves the outcome unknown; whoever waits for it finds that out by the time-out."""
    if not sent.cancelled():
        sent.exception()
