"""What the worker says to jobs and queues: commands that are sent until Kafka has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from confluent_kafka import KafkaException

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import split_stream
from jobledger.domain.values import Actor, ActorKind
from jobledger.eventlog.clients import is_fatal
from jobledger.eventlog.producer import BackpressureError
from jobledger.schemas.commands import Command
from jobledger.telemetry.logs import get_logger

RETRY_SECONDS = 0.5

log = get_logger()


class CommandSender(Protocol):
    """The part of a CommandProducer that is needed here."""

    def send(self, command: Command) -> asyncio.Future[int]:
        """Send a command; the future is done when the broker has it."""
        ...

    def post(self, command: Command) -> None:
        """Send a command from any thread; nobody hears what becomes of it."""
        ...


class Reports:
    """Sends a worker's commands. A report is kept, and sent again with the same command id, until Kafka has it.

    It takes `on_fatal` for an error after which the producer can never send again.
    """

    def __init__(
        self,
        sender: CommandSender,
        worker: str,
        new_id: Callable[[], str],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._sender = sender
        self._actor = Actor(ActorKind.WORKER, worker)
        self._new_id = new_id
        self._on_fatal = on_fatal
        self._pending: dict[str, Command] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def pending(self) -> int:
        """Reports that Kafka doesn't have yet."""
        return len(self._pending)

    def send(
        self,
        stream: str,
        body: AnyCommand,
        *,
        correlation_id: str | None = None,
        traceparent: str | None = None,
        tracestate: str | None = None,
        delivered: Callable[[], None] | None = None,
    ) -> None:
        """Send a command to a stream; returns at once. `delivered` is called when Kafka has it."""
        command = Command(
            id=self._new_id(),
            stream=stream,
            actor=self._actor,
            body=body,
            correlation_id=correlation_id,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        self._pending[command.id] = command
        self._empty.clear()
        self._try(command, delivered)

    def post(self, stream: str, body: AnyCommand) -> bool:
        """Send a command once, from any thread, also while the loop stands; whether it could be."""
        command = Command(id=self._new_id(), stream=stream, actor=self._actor, body=body)
        try:
            self._sender.post(command)
        except (BackpressureError, KafkaException) as error:
            log.warning("report_failed", **_whose(stream), error=str(error))
            return False
        return True

    async def drained(self, timeout: float) -> bool:
        """Wait until Kafka has everything, at most `timeout` seconds; whether it has."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def _try(self, command: Command, delivered: Callable[[], None] | None) -> None:
        try:
            future = self._sender.send(command)
        except BackpressureError as error:
            self._later(command, delivered, error)
            return

        def settled(done: asyncio.Future[int]) -> None:
            error = None if done.cancelled() else done.exception()
            if error is None:
                self._done(command, delivered)
            else:
                self._later(command, delivered, error)

        future.add_done_callback(settled)

    def _done(self, command: Command, delivered: Callable[[], None] | None) -> None:
        self._pending.pop(command.id, None)
        if not self._pending:
            self._empty.set()
        if delivered is not None:
            delivered()

    def _later(self, command: Command, delivered: Callable[[], None] | None, error: BaseException) -> None:
        if isinstance(error, KafkaException) and is_fatal(error.args[0]):
            self._on_fatal(error)
            return
        trace = command.traceparent
        log.warning("report_resent", **_whose(command.stream), error=str(error), traceparent=trace)
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try, command, delivered)


def _whose(stream: str) -> dict[str, str]:
    """The job, or the queue, that a report is for."""
    kind, tenant, name = split_stream(stream)
    return {"job_id" if kind == "job" else "queue": name, "tenant_id": tenant}
