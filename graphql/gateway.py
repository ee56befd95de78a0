"""Sends commands and waits for their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from jobledger.domain.commands import AnyCommand
from jobledger.domain.values import SYSTEM
from jobledger.eventlog.producer import BackpressureError, CommandProducer
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome, OutcomeStatus


class NotSent:
    """What became of a command that never left this process."""


NOT_SENT: Final = NotSent()
#: None: it may have been sent, and no outcome came in time.
Decided = Outcome | NotSent | None
#: Waits, at most so many seconds, until commands may be sent; see TopicGate.
Opened = Callable[[float], Awaitable[bool]]
#: How long an answer waits for the broker to say where its question stands: it is said within milliseconds.
SENT_SECONDS = 1.0


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
        sent: list[asyncio.Future[int] | None] = []
        for index, command in enumerate(commands):
            try:
                future = self._producer.send(command)
            except BackpressureError:
                sent.append(None)
                waiter.settle(index, None)
            else:
                future.add_done_callback(_look)
                sent.append(future)
        try:
            await waiter.wait(seconds)
        finally:
            self._tail.give_up(waiter)
        late = [future for future in sent if future is not None and not future.done()]
        if late and waiter.left == 0:  # outcomes of an earlier sending can be here before the broker has taken this one
            await asyncio.wait(late, timeout=SENT_SECONDS)
        return [_answer(future, outcome) for future, outcome in zip(sent, waiter.outcomes, strict=True)]

    async def ask(self, stream: str, body: AnyCommand, command_id: str, timeout: float) -> Outcome | None:
        """Ask the owner of a stream a query; None when it does not answer in time."""
        command = Command(id=command_id, stream=stream, actor=SYSTEM, body=body, reply=True)
        (decided,) = await self.decide([command], timeout)
        return decided if isinstance(decided, Outcome) else None


def _answer(sent: asyncio.Future[int] | None, outcome: Outcome | None) -> Decided:
    """What became of a command, to him who sent it: what was sent before his under the same id makes his a repeat."""
    if outcome is None:
        return NOT_SENT if sent is None else None
    if sent is None or not sent.done() or sent.cancelled() or sent.exception() is not None:
        return outcome
    if outcome.offset is not None and outcome.offset < sent.result() and outcome.status is OutcomeStatus.ACCEPTED:
        return msgspec.structs.replace(outcome, duplicate=True)
    return outcome


def _look(sent: asyncio.Future[int]) -> None:
    """A failed delivery leaves the outcome unknown; whoever waits for it finds that out by the time-out."""
    if not sent.cancelled():
        sent.exception()
