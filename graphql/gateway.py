"""Sends commands and waits for their outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from confluent_kafka import KafkaException

from jobledger.domain.commands import AnyCommand
from jobledger.domain.levels import OLDEST, not_enabled
from jobledger.domain.values import SYSTEM, Rejection
from jobledger.eventlog.partitions import SilentLogError
from jobledger.eventlog.producer import BackpressureError, CommandProducer
from jobledger.eventlog.topics import TopicError
from jobledger.graphql.outcomes import OutcomeTail
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome, OutcomeStatus
from jobledger.telemetry.metrics import Metrics


class NotSent:
    """What became of a command that never left this process."""


NOT_SENT: Final = NotSent()
#: None: it may have been sent, and no outcome came in time.
Decided = Outcome | NotSent | None
#: Waits, at most so many seconds, until commands may be sent; see TopicGate.
Opened = Callable[[float], Awaitable[bool]]
#: Whether the cell's partitions are written in a format level; see LevelGate.
Enabled = Callable[[int], Awaitable[bool]]
#: How long an answer waits for the broker to say where its question stands: it is said within milliseconds.
SENT_SECONDS = 1.0


class Gateway:
    """Commands out, outcomes in."""

    def __init__(
        self,
        producer: CommandProducer,
        tail: OutcomeTail,
        timeout_seconds: float,
        opened: Opened,
        enabled: Enabled,
        metrics: Metrics,
    ) -> None:
        self._waited = metrics.bind("jobledger_outcome_wait_seconds")
        self._producer = producer
        self._tail = tail
        self._opened = opened
        self._enabled = enabled
        self.timeout_seconds = timeout_seconds

    async def decide(self, commands: Sequence[Command], timeout: float | None = None) -> list[Decided]:
        """Send and wait, at most the mutation time-out; the answers are in the order of the commands."""
        if not commands:
            return []
        seconds = self.timeout_seconds if timeout is None else timeout
        if not await self._opened(seconds):
            return [None] * len(commands)  # never sent, so the same ids again do no harm
        newest = max((command.body for command in commands), key=lambda body: body.format_level)
        if newest.format_level > OLDEST:
            try:
                enabled = await self._enabled(newest.format_level)
            except (KafkaException, TopicError, SilentLogError):
                return [NOT_SENT] * len(commands)
            if not enabled:
                rejection = not_enabled(type(newest), newest.format_level)
                return [_refused(command, rejection) for command in commands]
        began = time.monotonic()
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
            self._waited.observe(time.monotonic() - began)
        late = [future for future in sent if future is not None and not future.done()]
        if late and waiter.left == 0:  # outcomes of an earlier sending can be here before the broker has taken this one
            await asyncio.wait(late, timeout=SENT_SECONDS)
        return [_answer(future, outcome) for future, outcome in zip(sent, waiter.outcomes, strict=True)]

    async def ask(self, stream: str, body: AnyCommand, command_id: str, timeout: float) -> Outcome | None:
        """Ask the owner of a stream a query; None when it does not answer in time."""
        command = Command(id=command_id, stream=stream, actor=SYSTEM, body=body, reply=True)
        (decided,) = await self.decide([command], timeout)
        return decided if isinstance(decided, Outcome) else None


def _refused(command: Command, rejection: Rejection) -> Outcome:
    """The outcome that no owner has written, since none was asked: at no position."""
    return Outcome(
        command_id=command.id,
        stream=command.stream,
        status=OutcomeStatus.REJECTED,
        partition=0,
        seq=0,
        at_ms=0,
        rejection=rejection,
    )


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
