"""Reads the heartbeats of workers, and by probes of its own knows how far it has read and what time the broker has."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from cachetools import FIFOCache
from confluent_kafka import OFFSET_END, KafkaException, Message

from jobledger.domain.worker_messages import Heartbeat
from jobledger.eventlog.clients import is_fatal
from jobledger.eventlog.producer import BackpressureError, RecordProducer
from jobledger.eventlog.reader import LogReader
from jobledger.processors.core.ports import Clock
from jobledger.schemas.worker import decode_heartbeat, encode_heartbeat
from jobledger.telemetry.service import CompoundService

PROBE_SECONDS = 0.5
#: While Kafka is away, more of them would only wait in line.
MAX_PROBES_ON_THEIR_WAY = 10
#: Probes that may still come back.
MAX_PROBES = 1_000
MAX_WORKERS = 100_000
PROBE_WORKER = "-"
#: A probe has come back: monotonic seconds when it was sent and read, and the broker's time in ms in between.
Measured = Callable[[float, float, int], None]


class Announcement(NamedTuple):
    """What a scheduler says of itself: its slot, the partitions that it serves, and those that it holds."""

    scheduler: str
    serves: list[int]
    holds: list[int]


Announce = Callable[[], Announcement]
#: What a scheduler has announced.
Heard = Callable[[str, list[int] | None, list[int] | None], None]


class HeartbeatBook(CompoundService):
    """When each worker incarnation was last heard of.

    Lease time counts only while heartbeats are being read: every half second the book writes a probe to the
    same partition; when it comes back, everything that workers had sent before it has been read. A stalled
    scheduler, a slow reader or a broker that is away thus stop the time of the leases instead of ending them.
    A probe also tells the other schedulers which partitions its sender serves and holds. Without the reader or the
    probes no lease would ever end: what ends one of them ends the book.
    """

    def __init__(
        self,
        producer: RecordProducer,
        topic: str,
        config: dict[str, str | int | float | bool],
        nonce: str,
        clock: Clock,
        measured: Measured = lambda sent_at, received_at, broker_ms: None,
        announce: Announce = lambda: Announcement("", [], []),
        heard: Heard = lambda *_: None,
    ) -> None:
        super().__init__()
        self._producer = producer
        self._topic = topic
        self._nonce = nonce
        self._clock = clock
        self._measured = measured
        self._announce = announce
        self._tell_heard = heard
        self._reader = LogReader(config, topic, {0: OFFSET_END}, self._read)
        #: The last heard of at the end: no cache, since to ask for a worker is not to hear of it.
        self._heard: OrderedDict[str, float] = OrderedDict()
        self._probes: FIFOCache[int, float] = FIFOCache(MAX_PROBES)
        self._probe_number = 0
        self._seen_until = 0.0
        self._first = asyncio.Event()
        self._on_their_way = 0

    @property
    def seen_until(self) -> float:
        """Everything that workers had sent by this monotonic time has been read."""
        return self._seen_until

    def heard_at(self, incarnation: str) -> float:
        """When a worker was last heard of; 0: never."""
        return self._heard.get(incarnation, 0.0)

    async def start(self) -> None:
        """Begin to read and to probe; returns when the first probe has come back. Raises what ended it before that."""
        self._stand()
        await self._begin_member(self._reader)
        self._follow(self._probe(), "heartbeat-probe")
        first = asyncio.ensure_future(self._first.wait())
        ended = asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait([first, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
        finally:
            first.cancel()
            ended.cancel()

    async def _probe(self) -> None:
        while True:
            if self._on_their_way < MAX_PROBES_ON_THEIR_WAY:
                # Told apart by a number in the place of a time: the wall clock may say the same time twice.
                number = self._probe_number = self._probe_number + 1
                self._probes[number] = self._clock.monotonic()
                said = self._announce()
                probe = Heartbeat(
                    worker=PROBE_WORKER,
                    incarnation=self._nonce,
                    sent_at_ms=number,
                    scheduler=said.scheduler,
                    serves=said.serves,
                    holds=said.holds,
                )
                self._send(encode_heartbeat(probe))
            await asyncio.sleep(PROBE_SECONDS)

    def _send(self, probe: bytes) -> None:
        """A probe that is not delivered is no loss, the next one does; a producer that can never send again is."""
        try:
            sent = self._producer.send(self._topic, 0, probe)
        except BackpressureError:
            return
        except KafkaException as error:
            self._end(error)
            return
        self._on_their_way += 1
        sent.add_done_callback(self._sent)

    def _sent(self, done: asyncio.Future[int]) -> None:
        self._on_their_way -= 1
        error = None if done.cancelled() else done.exception()
        if isinstance(error, KafkaException) and is_fatal(error.args[0]):
            self._end(error)

    async def _read(self, batch: list[Message]) -> None:
        now = self._clock.monotonic()
        for message in batch:
            try:
                heartbeat = decode_heartbeat(message.value() or b"")
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # liveness only: the next one comes in two seconds, and a worker without any is lost
            if heartbeat.worker != PROBE_WORKER:
                self._heard[heartbeat.incarnation] = now
                self._heard.move_to_end(heartbeat.incarnation)
                continue
            self._tell_heard(heartbeat.incarnation, heartbeat.serves, heartbeat.holds)
            if heartbeat.incarnation == self._nonce:
                self._came_back(heartbeat.sent_at_ms, message.timestamp()[1])
        while len(self._heard) > MAX_WORKERS:
            self._heard.popitem(last=False)

    def _came_back(self, number: int, broker_ms: int) -> None:
        sent = self._probes.pop(number, None)
        if sent is None:
            return
        self._seen_until = max(self._seen_until, sent)
        self._measured(sent, self._clock.monotonic(), broker_ms)
        self._first.set()
