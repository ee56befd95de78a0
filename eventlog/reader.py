"""Reading partitions of a topic without a group: api tails, worker inboxes, heartbeats, recovery."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobledger.eventlog.clients import ClientConfig

Deliver = Callable[[list[Message]], Awaitable[None]]
MAX_BATCH = 2_000
POLL_SECONDS = 0.1  # a stop waits for a half of it
OFFSET_TIMEOUT_SECONDS = 10.0


class LogReader:
    """Reads partitions in a thread of its own and hands batches to an async function, one at a time.

    The next poll waits until `deliver` has returned: a slow reader slows itself only. An error of `deliver`
    or of the broker that is final ends the reader; `wait()` then raises it.
    """

    def __init__(self, config: ClientConfig, topic: str, starts: dict[int, int], deliver: Deliver) -> None:
        self._config = config
        self._topic = topic
        self._starts = starts
        self._deliver = deliver
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._ends: dict[int, int] = {}
        self._behind = set(starts)

    @property
    def caught_up(self) -> bool:
        """Whether all has been delivered that stood in the partitions when the reader began.

        Told by the records that came since, too: a partition that is written to all the time may never show
        its end.
        """
        return not self._behind

    async def start(self) -> None:
        """Fix the start offsets (OFFSET_END and OFFSET_BEGINNING are resolved now) and begin to read."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        consumer = Consumer(self._config)
        try:
            assignment = await asyncio.to_thread(self._resolve, consumer)
            consumer.assign(assignment)
        except BaseException:
            await asyncio.to_thread(consumer.close)
            raise
        self._thread = threading.Thread(target=self._run, args=(consumer,), name=f"read-{self._topic}", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop reading and close the consumer; may be called twice."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def wait(self) -> None:
        """Return when the reader was stopped; raise what ended it otherwise."""
        assert self._ended is not None
        await asyncio.shield(self._ended)

    def _resolve(self, consumer: Consumer) -> list[TopicPartition]:
        resolved = []
        for partition, start in self._starts.items():
            at = TopicPartition(self._topic, partition, start)
            low, high = self._watermarks(consumer, at)
            self._ends[partition] = high
            if start in (OFFSET_END, OFFSET_BEGINNING):
                at.offset = high if start == OFFSET_END else low
            if at.offset >= high:
                self._behind.discard(partition)  # told by nobody before the first empty fetch is over: half a second
            resolved.append(at)
        return resolved

    def _watermarks(self, consumer: Consumer, at: TopicPartition) -> tuple[int, int]:
        """First and next offset; waits out what passes, such as a new topic whose leader isn't known everywhere."""
        deadline = time.monotonic() + OFFSET_TIMEOUT_SECONDS
        while True:
            try:
                return consumer.get_watermark_offsets(at, timeout=OFFSET_TIMEOUT_SECONDS)
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline or self._stopping.is_set():
                    raise
            time.sleep(0.05)

    def _run(self, consumer: Consumer) -> None:
        failure: BaseException | None = None
        try:
            while not self._stopping.is_set():
                batch, reached = self._poll(consumer)
                if batch:
                    self._hand_over(batch)
                self._behind -= reached
        except BaseException as error:  # noqa: BLE001 - the thread's end is reported to the loop, whatever it was
            failure = error
        finally:
            consumer.close()
            self._report(failure)

    def _poll(self, consumer: Consumer) -> tuple[list[Message], set[int]]:
        """Records, and the partitions of which the end, as it stood at the start, has been reached with them."""
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            return [], set()
        batch, reached = [], set()
        for message in [first, *consumer.consume(MAX_BATCH, 0)]:
            error, partition = message.error(), message.partition() or 0
            if error is None:
                batch.append(message)
                if partition in self._behind and (message.offset() or 0) + 1 >= self._ends[partition]:
                    reached.add(partition)
            elif error.code() == KafkaError._PARTITION_EOF:
                reached.add(partition)
            elif not error.retriable() and error.code() not in PASSING:
                raise KafkaException(error)
        return batch, reached

    def _hand_over(self, batch: list[Message]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._call(batch), self._loop).result()

    async def _call(self, batch: list[Message]) -> None:
        await self._deliver(batch)

    def _report(self, failure: BaseException | None) -> None:
        def settle() -> None:
            if self._ended is None or self._ended.done():
                return
            if failure is None or self._stopping.is_set():
                self._ended.set_result(None)
            else:
                self._ended.set_exception(failure)

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)


#: Errors that librdkafka recovers from by itself while a broker is away.
PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
