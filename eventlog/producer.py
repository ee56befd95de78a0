"""Plain producers: records with a future each, and commands grouped by partition while they wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from jobledger.domain.identity import partition_of
from jobledger.eventlog.clients import KAFKA_LOG, ClientConfig, is_fatal
from jobledger.schemas.commands import Command, encode_command, join_record
from jobledger.schemas.limits import MAX_COMMANDS_PER_RECORD, MAX_RECORD_BYTES
from jobledger.schemas.trace_headers import Headers, command_headers
from jobledger.telemetry.service import ThreadService

MAX_WAITING_COMMANDS = 50_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
FLUSH_SECONDS = 5.0
POLL_SECONDS = 0.1


class BackpressureError(RuntimeError):
    """Too much waits for the broker already; nothing of this was sent."""


class RecordProducer(ThreadService):
    """An idempotent producer whose deliveries are futures of the running loop.

    A record is never given up by a time-out: a future that is not done says that the outcome is unknown.
    After a fatal error of the client nothing can be sent any more, and without its thread no delivery is learnt of:
    `wait()` raises then.
    """

    def __init__(self, config: ClientConfig) -> None:
        super().__init__()
        #: None once it has stopped: the threads and connections of the client go at once, whoever still knows this.
        self._producer: Producer | None = Producer(config, logger=KAFKA_LOG)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin to serve deliveries."""
        self._loop = asyncio.get_running_loop()
        self._begin(self._serve, "producer")

    async def stop(self) -> None:
        """Wait up to 5 s for what is under way, then stop."""
        if self._thread is not None:
            await asyncio.to_thread(self.flush, FLUSH_SECONDS)
        await super().stop()
        await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        self._producer = None

    def flush(self, seconds: float) -> int:
        """Wait, in the calling thread, for all deliveries, at most so long; how many are still under way."""
        producer = self._producer
        return 0 if producer is None else producer.flush(seconds)

    @property
    def usable(self) -> bool:
        """Whether records can still be sent and their deliveries learnt of."""
        return self._stands

    def send(
        self, topic: str, partition: int, value: bytes, key: bytes | None = None, headers: Headers | None = None
    ) -> asyncio.Future[int]:
        """Produce a record; the future gives its offset, or raises KafkaException when it can't be delivered.

        Raises BackpressureError when the client's own queue is full.
        """
        assert self._loop is not None, "start() first"
        future: asyncio.Future[int] = self._loop.create_future()
        loop = self._loop

        def delivered(error: KafkaError | None, message: Message) -> None:
            loop.call_soon_threadsafe(_settle, future, error, message.offset())
            if error is not None and is_fatal(error):
                loop.call_soon_threadsafe(self._end, KafkaException(error))

        self.post(topic, partition, value, delivered, key, headers)
        return future

    def post(
        self,
        topic: str,
        partition: int,
        value: bytes,
        delivered: Callable[[KafkaError | None, Message], None],
        key: bytes | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Produce a record from any thread, also while the loop stands; `delivered` is called in the producer's own.

        Raises BackpressureError when the client's own queue is full, and after `stop`.
        """
        producer = self._producer  # `stop` may let go of it meanwhile
        if producer is None:
            raise BackpressureError("This process is stopping and sends nothing any more; try again later.")
        try:
            producer.produce(topic, value, key, partition, on_delivery=delivered, headers=headers or None)
        except BufferError as error:
            raise BackpressureError("Too many records wait for Kafka; try again later.") from error
        except KafkaException as error:
            if is_fatal(error.args[0]) and self._loop is not None:
                self._loop.call_soon_threadsafe(self._end, error)
            raise

    def _serve(self) -> None:
        while (producer := self._producer) is not None and not self._stopping.is_set():
            producer.poll(POLL_SECONDS)


def _settle(future: asyncio.Future[int], error: KafkaError | None, offset: int | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(offset or 0)
    else:
        future.set_exception(KafkaException(error))


class CommandProducer:
    """Sends commands to the partitions of their streams.

    A command that comes alone goes alone, at once. While a record of its partition is on its way, commands
    wait and go together in the next one: up to 500 and 256 KiB.
    """

    def __init__(self, producer: RecordProducer, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._waiting: dict[int, deque[tuple[bytes, asyncio.Future[int]]]] = {}
        self._busy: set[int] = set()
        self._count = 0
        self._bytes = 0

    def send(self, command: Command) -> asyncio.Future[int]:
        """Send a command; the future is done when the broker has it, with the offset of its record.

        Raises BackpressureError, with nothing sent, when 50,000 commands or 64 MiB wait already.
        """
        if self._count >= MAX_WAITING_COMMANDS or self._bytes >= MAX_WAITING_BYTES:
            raise BackpressureError(f"{self._count} commands wait for Kafka; try again later.")
        partition = partition_of(command.stream, self._partitions)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        data = encode_command(command)
        self._waiting.setdefault(partition, deque()).append((data, future))
        self._count += 1
        self._bytes += len(data)
        if partition not in self._busy:
            self._busy.add(partition)
            asyncio.get_running_loop().call_soon(self._flush, partition)
        return future

    def post(self, command: Command) -> None:
        """Send a command from any thread, also while the loop stands: at once, in a record of its own.

        Nobody hears what becomes of it. Raises BackpressureError when the client's own queue is full.
        """
        partition = partition_of(command.stream, self._partitions)
        self._producer.post(
            self._topic, partition, join_record([encode_command(command)]), lambda _error, _record: None
        )

    def _flush(self, partition: int) -> None:
        group = self._next_group(partition)
        if not group:
            self._busy.discard(partition)
            return
        value = join_record([data for data, _ in group])
        try:
            headers = command_headers(value) if len(group) == 1 else None
            sent = self._producer.send(self._topic, partition, value, headers=headers)
        except (BackpressureError, KafkaException) as error:
            self._settle_group(group, error)
            asyncio.get_running_loop().call_soon(self._flush, partition)
            return
        sent.add_done_callback(lambda done: self._delivered(partition, group, done))

    def _next_group(self, partition: int) -> list[tuple[bytes, asyncio.Future[int]]]:
        waiting = self._waiting.get(partition)
        group: list[tuple[bytes, asyncio.Future[int]]] = []
        size = 0
        while waiting and len(group) < MAX_COMMANDS_PER_RECORD:
            if group and size + len(waiting[0][0]) > MAX_RECORD_BYTES:
                break
            size += len(waiting[0][0])
            group.append(waiting.popleft())
        self._count -= len(group)
        self._bytes -= size
        return group

    def _delivered(
        self, partition: int, group: list[tuple[bytes, asyncio.Future[int]]], done: asyncio.Future[int]
    ) -> None:
        if done.cancelled():
            for _, future in group:
                future.cancel()
        else:
            self._settle_group(group, done.exception() or done.result())
        self._flush(partition)

    def _settle_group(self, group: list[tuple[bytes, asyncio.Future[int]]], result: int | BaseException) -> None:
        for _, future in group:
            if future.done():
                continue
            if isinstance(result, int):
                future.set_result(result)
            else:
                future.set_exception(result)
