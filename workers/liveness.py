"""Heartbeats, the lease that they give, and what happens when it runs out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from confluent_kafka import KafkaError, KafkaException

from jobledger.domain.worker_messages import Heartbeat
from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.eventlog.producer import BackpressureError, RecordProducer
from jobledger.schemas.worker import encode_heartbeat
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import ThreadService
from jobledger.workers.lease import MAX_SLEEP_SECONDS, Lease
from jobledger.workers.measures import Measures

#: Heartbeats on their way at once: while Kafka is away, more of them would only wait in line.
MAX_UNACKNOWLEDGED = 3

log = get_logger()


class Liveness(ThreadService):
    """Sends a heartbeat every interval, from a thread of its own, and watches the lease.

    A handler that blocks the event loop doesn't hold up the heartbeats of the worker's other tasks. `on_lost` is
    awaited when the lease has run out; heartbeats go on meanwhile, under whatever incarnation is then named.
    """

    def __init__(
        self,
        producer: RecordProducer,
        topic: str,
        worker: str,
        lease: Lease,
        measures: Measures,
        interval_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._producer = producer
        self._topic = topic
        self._worker = worker
        self._lease = lease
        self._measures = measures
        self._interval = interval_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._unacknowledged = 0
        self._confirmed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.incarnation = ""
        self.connected = False
        self.acknowledged_at = 0.0

    async def first(self, incarnation: str) -> None:
        """Beat for a new incarnation until a heartbeat of it is acknowledged: from then on the lease is valid."""
        self._loop = asyncio.get_running_loop()
        self._confirmed.clear()
        self._lease.begin()
        self.incarnation = incarnation
        while not self._confirmed.is_set():
            self.beat()
            try:
                await asyncio.wait_for(self._confirmed.wait(), self._interval)
            except TimeoutError:
                self._notice_silence("no heartbeat is acknowledged")

    async def start(self) -> None:
        """Beat until `stop`."""
        self._begin(self._beat_on, "heartbeats")

    def _beat_on(self) -> None:
        while not self._stopping.wait(self._interval):
            self.beat()
            if boot_seconds() - self.acknowledged_at > 2 * self._interval + 0.5:
                self._notice_silence("heartbeats are not acknowledged")

    async def watch(self, on_lost: Callable[[], Awaitable[None]]) -> None:
        """Await `on_lost` each time the lease runs out; it has to bring a new lease."""
        while True:
            left = self._lease.remaining
            if left > 0:
                await asyncio.sleep(min(left, MAX_SLEEP_SECONDS))
            if not self._lease.valid:
                await on_lost()

    def beat(self) -> None:
        """Send one heartbeat; from any thread."""
        incarnation = self.incarnation
        with self._lock:
            if self._unacknowledged >= MAX_UNACKNOWLEDGED or not incarnation:
                return
            self._unacknowledged += 1
        sent_at = boot_seconds()
        record = Heartbeat(
            worker=self._worker,
            incarnation=incarnation,
            sent_at_ms=int(self._clock() * 1000),
            running=self._measures.running,
        )

        def delivered(error: KafkaError | None, _record: object) -> None:
            self._delivered(error, sent_at, incarnation)

        try:
            self._producer.post(self._topic, 0, encode_heartbeat(record), delivered)
        except (BackpressureError, KafkaException) as error:
            with self._lock:
                self._unacknowledged -= 1
            self._notice_silence(str(error))

    def _delivered(self, error: KafkaError | None, sent_at: float, incarnation: str) -> None:
        """In the thread of the producer: the lease grows also while the loop stands."""
        with self._lock:
            self._unacknowledged -= 1
        if error is not None:
            self._notice_silence(error.str())
            return
        self.acknowledged_at = boot_seconds()
        self._measures.heartbeat()
        if not self.connected:
            self.connected = True
            log.info("queue_connection_restored")
        if incarnation != self.incarnation:
            return
        self._lease.confirm(sent_at)
        if self._lease.valid and self._loop is not None and not self._confirmed.is_set():
            self._loop.call_soon_threadsafe(self._confirmed.set)

    def _notice_silence(self, error: str) -> None:
        if self.connected:
            self.connected = False
            log.error("queue_connection_lost", error=error)
