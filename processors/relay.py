"""The relay of a process on Kafka: one plain idempotent producer for the outbox entries of all its owners."""

from __future__ import annotations

import asyncio
from functools import partial

from confluent_kafka import KafkaException

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.producer import BackpressureError, RecordProducer
from jobledger.processors.core.plan import OutboxEntry
from jobledger.processors.core.relay import OutboxRelay, TransportError
from jobledger.schemas.topics import Topic, topic_name
from jobledger.schemas.trace_headers import Headers, command_headers, task_headers
from jobledger.telemetry.logs import get_logger

_TOPICS = {"c": Topic.COMMANDS, "t": Topic.TASKS, "q": Topic.QUARANTINE}
LOOK_SECONDS = 1.0

log = get_logger()


class KafkaTransport:
    """`Transport` on Kafka. The producer keeps the order and never gives up by itself.

    `scheduler`: the member of `tracestate` that tells workers who hands their tasks out.
    """

    def __init__(self, config: ClientConfig, cell: str, scheduler: str = "") -> None:
        self._scheduler = scheduler.encode()
        self._names = {letter: topic_name(cell, topic) for letter, topic in _TOPICS.items()}
        self._producer = RecordProducer(config)

    async def start(self) -> None:
        """Begin to send."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush what is under way, then stop; may be called twice."""
        await self._producer.stop()

    @property
    def usable(self) -> bool:
        """Whether what is handed over can still arrive."""
        return self._producer.usable

    def send(self, entry: OutboxEntry) -> asyncio.Future[int]:
        """Produce an entry; raises TransportError when the client takes no more."""
        try:
            return self._producer.send(
                self._names[entry.topic_letter], entry.partition, entry.value, headers=self._headers(entry)
            )
        except (BackpressureError, KafkaException) as error:
            raise TransportError(str(error)) from error

    def _headers(self, entry: OutboxEntry) -> Headers:
        if entry.topic_letter == "t":
            return task_headers(entry.value, self._scheduler)
        return command_headers(entry.value) if entry.topic_letter == "c" else []


class KafkaRelay(OutboxRelay):
    """The relay over Kafka; see `OutboxRelay`."""

    def __init__(self, config: ClientConfig, cell: str, scheduler: str = "") -> None:
        super().__init__(partial(KafkaTransport, config, cell, scheduler), _log_resent)
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to send, and to look whether the producer lives."""
        await super().start()
        self._watch = asyncio.create_task(self._look(), name="relay-watch")

    async def stop(self) -> None:
        """Flush what is under way, then stop; may be called twice."""
        if self._watch is not None:
            self._watch.cancel()
        await super().stop()

    async def _look(self) -> None:
        """A producer that has ended by itself tells no delivery, so nothing else would show it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if isinstance(self._transport, KafkaTransport) and not self._transport.usable and not self.renewing:
                self._renew(TransportError("The producer has ended by itself."))


def _log_resent(error: str) -> None:
    log.warning("outbox_resent", partition=-1, error=error)
