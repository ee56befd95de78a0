"""Sends the outbox entries of all owners of a process through one plain idempotent producer."""

from __future__ import annotations

import asyncio
from functools import partial

from confluent_kafka import KafkaException

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.producer import BackpressureError, RecordProducer
from jobledger.processors.core.plan import OutboxEntry
from jobledger.processors.core.ports import OutboxHolder
from jobledger.schemas.topics import Topic, topic_name
from jobledger.telemetry.logs import get_logger

_TOPICS = {"c": Topic.COMMANDS, "t": Topic.TASKS, "q": Topic.QUARANTINE}
RESEND_SECONDS = 0.5

log = get_logger()


class KafkaRelay:
    """`Relay` on Kafka. The producer keeps the order and never gives up by itself.

    When a delivery fails all the same, everything that has not arrived is sent again through a new
    producer, in order; receivers drop what they have had, and what lies beyond a gap.
    """

    def __init__(self, config: ClientConfig, cell: str) -> None:
        self._config = config
        self._names = {letter: topic_name(cell, topic) for letter, topic in _TOPICS.items()}
        self._producer = RecordProducer(config)
        self._holders: set[OutboxHolder] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._gap = False

    async def start(self) -> None:
        """Begin to send."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush what is under way, then stop; may be called twice."""
        if self._renewing is not None:
            self._renewing.cancel()
        await self._producer.stop()

    def register(self, holder: OutboxHolder) -> None:
        """An owner serves: send what is left of its outbox."""
        self._holders.add(holder)
        self.send(holder, holder.unacknowledged())

    def unregister(self, holder: OutboxHolder) -> None:
        """The owner has let go of its partition."""
        self._holders.discard(holder)

    def send(self, holder: OutboxHolder, entries: list[tuple[bytes, OutboxEntry]]) -> None:
        """Send entries in order; the holder learns of each arrival."""
        if self._renewing is not None:
            return
        for key, entry in entries:
            try:
                sent = self._producer.send(self._names[entry.topic_letter], entry.partition, entry.value)
            except (BackpressureError, KafkaException) as error:
                self._renew(error)
                return
            sent.add_done_callback(partial(self._arrived, self._producer, holder, key))

    def _arrived(self, producer: RecordProducer, holder: OutboxHolder, key: bytes, done: asyncio.Future[int]) -> None:
        error = None if done.cancelled() else done.exception()
        if producer is not self._producer:
            return
        if error is not None:
            self._gap = True
            self._renew(error)
        elif not self._gap and holder in self._holders:
            holder.acknowledge(key)  # behind a gap it would be wrong: the receiver has dropped what came through

    def _renew(self, error: BaseException) -> None:
        if self._renewing is None:
            log.warning("outbox_resent", partition=-1, error=str(error))
            self._renewing = asyncio.create_task(self._send_again())

    async def _send_again(self) -> None:
        await self._producer.stop()
        await asyncio.sleep(RESEND_SECONDS)
        self._producer = RecordProducer(self._config)
        self._gap = False
        await self._producer.start()
        self._renewing = None
        for holder in list(self._holders):
            self.send(holder, holder.unacknowledged())
