"""A cell on a real broker as tests see it: commands, outcomes, a played worker, and owners run in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from uuid_utils.compat import uuid7

from jobledger.domain.identity import job_stream, partition_of, queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.queue import commands as qc
from jobledger.domain.values import Actor, ActorKind, Opaque
from jobledger.domain.worker_messages import CancelTask, Heartbeat, RunTask
from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.producer import RecordProducer
from jobledger.eventlog.reader import LogReader
from jobledger.eventlog.topics import Durability, _new_topic, ensure_topics
from jobledger.processors.clock import SystemClock
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.owner import Owner, OwnerConfig
from jobledger.processors.core.plan import Plan
from jobledger.processors.kafka_log import KafkaPartitionLog
from jobledger.processors.observer import TelemetryObserver
from jobledger.processors.relay import KafkaRelay
from jobledger.replay.log import Log, type_header
from jobledger.replay.report import Report
from jobledger.replay.state import StateFold, read_machine
from jobledger.schemas.commands import Command, CommandRecord, encode_record
from jobledger.schemas.events import EventMapper, EventRecord
from jobledger.schemas.outcomes import Outcome, decode_outcome
from jobledger.schemas.quarantine import Quarantined, decode_quarantine
from jobledger.schemas.topics import TASK_PARTITIONS, TOPICS, Topic, topic_name
from jobledger.schemas.worker import decode_tasks, encode_heartbeat
from jobledger.settings import KafkaSettings
from jobledger.telemetry.metrics import Metrics

T = TypeVar("T")
TENANT = "default"
USER = Actor(ActorKind.USER, "ann")
DURABILITY = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
WINDOW_MS = 86_400_000


async def until(found: Callable[[], T | None], seconds: float = 20.0, pause: float = 0.01) -> T:
    """The first true answer; fails after the time."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"it did not come to pass in {seconds} s"
        await asyncio.sleep(pause)
    return answer


class LogCell:
    """Topics of a cell with what tests send and read."""

    def __init__(self, bootstrap: str, cell: str, partitions: int = 4) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap, replication_factor=1, min_insync_replicas=1)
        self.cell = cell
        self.partitions = partitions
        self.outcomes: dict[str, list[Outcome]] = {}
        self.quarantined: list[Quarantined] = []
        self.messages: list[RunTask | CancelTask] = []
        self._readers: list[LogReader] = []

    def topic(self, topic: Topic) -> str:
        return topic_name(self.cell, topic)

    async def start(self) -> None:
        await asyncio.to_thread(ensure_topics, self.kafka.client_config(), self.cell, self.partitions, DURABILITY)
        self.producer = RecordProducer(producer_config(self.kafka, "test"))
        await self.producer.start()
        await asyncio.gather(
            self._read(Topic.OUTCOMES, self.partitions, self._take_outcome),
            self._read(Topic.QUARANTINE, 1, self._take_quarantined),
            self._read(Topic.TASKS, TASK_PARTITIONS, self._take_task),
        )

    async def stop(self) -> None:
        await asyncio.gather(self.producer.stop(), *(reader.stop() for reader in self._readers))

    async def _read(self, topic: Topic, partitions: int, take: Callable[[bytes], None]) -> None:
        async def deliver(batch: list[Message]) -> None:
            for message in batch:
                value = message.value()
                assert isinstance(value, bytes)
                take(value)

        config = consumer_config(self.kafka, "test", f"{self.cell}-test")
        reader = LogReader(config, self.topic(topic), dict.fromkeys(range(partitions), OFFSET_BEGINNING), deliver)
        await reader.start()
        self._readers.append(reader)

    def _take_outcome(self, value: bytes) -> None:
        outcome = decode_outcome(value)
        self.outcomes.setdefault(outcome.command_id, []).append(outcome)

    def _take_quarantined(self, value: bytes) -> None:
        self.quarantined += decode_quarantine(value)

    def _take_task(self, value: bytes) -> None:
        self.messages += decode_tasks(value).messages

    # -- sending --------------------------------------------------------------------------------------------------

    def job_on(self, partition: int) -> str:
        """A new job's stream on that partition."""
        while True:
            stream = job_stream(TENANT, str(uuid7()))
            if partition_of(stream, self.partitions) == partition:
                return stream

    def queue_on(self, partition: int) -> str:
        """The name of a queue that lives on that partition."""
        return next(
            name
            for name in (f"q{n}" for n in range(10_000))
            if partition_of(queue_stream(TENANT, name), self.partitions) == partition
        )

    async def raw(self, topic: Topic, partition: int, value: bytes, key: bytes | None = None) -> int:
        """Any bytes as a record; gives its offset."""
        return await self.producer.send(self.topic(topic), partition, value, key)

    async def send(
        self, stream: str, body: Any, command_id: str | None = None, *, reply: bool = True, actor: Actor = USER
    ) -> str:
        """A command in a record of its own; gives its id."""
        command = Command(id=command_id or str(uuid7()), stream=stream, actor=actor, body=body, reply=reply)
        await self.send_record([command])
        return command.id

    async def send_record(self, commands: list[Command], source: int | None = None, number: int | None = None) -> int:
        partition = partition_of(commands[0].stream, self.partitions)
        return await self.raw(
            Topic.COMMANDS, partition, encode_record(CommandRecord(commands=commands, source=source, number=number))
        )

    async def outcome(self, command_id: str, count: int = 1, seconds: float = 20.0) -> Outcome:
        """The last of the first `count` outcomes of a command."""
        found = await until(lambda: len(self.outcomes.get(command_id, [])) >= count, seconds)
        assert found
        return self.outcomes[command_id][count - 1]

    async def ask(self, stream: str, body: Any, command_id: str | None = None) -> Outcome:
        """Send a command and wait for what became of it."""
        sent = await self.send(stream, body, command_id)
        return await self.outcome(sent)

    # -- looking --------------------------------------------------------------------------------------------------

    def events(self, partition: int) -> list[EventRecord]:
        """All committed events of a partition."""
        log, mapper, found = Log(self.kafka, self.cell), EventMapper(), []
        try:
            for message in log.read(Topic.EVENTS, partition, log.watermarks(Topic.EVENTS, partition)[0]):
                if message is None:
                    return found
                found.append(mapper.read(type_header(message), message.value() or b""))
        finally:
            log.close()
        return found

    def records(self, topic: Topic, partition: int) -> list[Message]:
        """All committed records of a partition of a topic."""
        log = Log(self.kafka, self.cell)
        try:
            start = log.watermarks(topic, partition)[0]
            found = []
            for message in log.read(topic, partition, start):
                if message is None:
                    return found
                found.append(message)
        finally:
            log.close()
        return found

    def differences(self, partition: int, memory: Machine | None = None) -> list[str]:
        """How the fold of a partition's events differs from an owner's memory, or from what `state` would give."""
        events = self.events(partition)
        log = Log(self.kafka, self.cell)
        machine = memory or read_machine(log, partition, self.cell, self.partitions, len(events))
        log.close()
        report = Report(self.cell)
        fold = StateFold(machine, report, WINDOW_MS)
        for number, record in enumerate(events, 1):
            report.compare("events", "seq", number, record.seq)
            fold.fold(record)
        report.compare("checkpoint", "seq", len(events), machine.checkpoint.seq)
        fold.finish()
        return [str(difference) for difference in report.differences]

    def delete_topic(self, topic: Topic) -> None:
        """Delete a topic; returns when the broker knows it no more."""
        admin = AdminClient(self.kafka.client_config())
        admin.delete_topics([self.topic(topic)], operation_timeout=10)[self.topic(topic)].result(20)
        self._until_known(admin, topic, known=False)

    def create_topic(self, topic: Topic) -> None:
        """Make an empty topic as the cell wants it, as somebody does who restores one from a copy."""
        admin = AdminClient(self.kafka.client_config())
        new = _new_topic(self.cell, TOPICS[topic], self.partitions, DURABILITY)
        admin.create_topics([new])[self.topic(topic)].result(20)
        self._until_known(admin, topic, known=True)

    def _until_known(self, admin: AdminClient, topic: Topic, *, known: bool) -> None:
        deadline = time.monotonic() + 20
        while (self.topic(topic) in admin.list_topics(timeout=10).topics) is not known:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def group_offset(self, partition: int, offset: int | None = None) -> int:
        """What the schedulers' group has committed for `commands`; set it when `offset` is given."""
        consumer = Consumer(consumer_config(self.kafka, "test", f"{self.cell}-scheduler"))
        at = TopicPartition(self.topic(Topic.COMMANDS), partition)
        if offset is not None:
            at.offset = offset
            consumer.commit(offsets=[at], asynchronous=False)
        found = consumer.committed([at], 10)[0].offset
        consumer.close()
        return int(found)


class PlayedWorker:
    """Registers with a queue, beats, and answers tasks as it is told."""

    def __init__(self, cell: LogCell, queue: str, credits: int = 10, handlers: tuple[str, ...] = ("noop",)) -> None:
        self.cell = cell
        self.name = f"w-{str(uuid7())[-6:]}"
        self.incarnation = str(uuid7())
        self.queue = queue_stream(TENANT, queue)
        self.body = qc.SetCredits(
            worker=self.name, incarnation=self.incarnation, pool="p", credits=credits, handlers=list(handlers)
        )

    async def register(self) -> None:
        await self.beat()
        await self.cell.ask(self.queue, self.body)

    async def beat(self) -> None:
        beat = Heartbeat(worker=self.name, incarnation=self.incarnation, sent_at_ms=time.time_ns() // 1_000_000)
        await self.cell.raw(Topic.HEARTBEATS, 0, encode_heartbeat(beat))

    def tasks(self) -> list[RunTask]:
        """What was sent to this worker, repeats left out."""
        mine = [m for m in self.cell.messages if isinstance(m, RunTask) and m.incarnation == self.incarnation]
        return list({(m.job, m.task, m.assignment): m for m in mine}.values())

    async def succeed(self, task: RunTask) -> None:
        now = time.time_ns() // 1_000_000
        body = jc.ReportSucceeded(
            task=task.task,
            assignment=task.assignment,
            worker=self.name,
            incarnation=self.incarnation,
            assigned_at_ms=task.assigned_at_ms,
            started_at_ms=now,
            ended_at_ms=now,
            result=Opaque("1"),
        )
        await self.cell.send(task.job, body, reply=False, actor=Actor(ActorKind.WORKER, self.name))


def submit(**given: Any) -> jc.SubmitJob:
    """A submission with defaults."""
    return jc.SubmitJob(**{"handler": "noop", "queue": "default", "payload": Opaque('{"n":1}')} | given)


class Quiet:
    """Notes what owners do; their troubles are told as in the product."""

    def __init__(self) -> None:
        self.open_count: dict[int, int] = {}
        self.took: dict[int, float] = {}
        self.reopenings: list[tuple[int, str, str]] = []
        self.refusals: list[str] = []
        self.quarantined = 0
        self._told = TelemetryObserver(Metrics("scheduler", instance_id="t", strict=True), SystemClock(), "t")

    def opened(self, partition: int, seconds: float, live_jobs: int) -> None:
        self.open_count[partition] = self.open_count.get(partition, 0) + 1
        self.took[partition] = seconds

    def closed(self, partition: int, reason: str) -> None:
        pass

    def reopened(self, partition: int, reason: str, error: str) -> None:
        self.reopenings.append((partition, reason, error))
        self._told.reopened(partition, reason, error)

    def refused(self, partition: int, error: str) -> None:
        self.refusals.append(error)
        self._told.refused(partition, error)

    def turned(self, partition: int, collect_seconds: float) -> None:
        pass

    def gaps(self, partition: int, overdue: Any) -> None:
        pass

    def committed(self, partition: int, plan: Plan, seconds: float) -> None:
        self.quarantined += sum(decided.result == "QUARANTINED" for decided in plan.decided)


class Alive:
    """Heartbeats in a world where nobody is ever silent."""

    seen_until = 0.0

    def heard_at(self, incarnation: str) -> float:
        return 0.0


class OwnerAlone:
    """One owner without a group: what the log holds is offered to it as it comes."""

    def __init__(
        self,
        cell: LogCell,
        partition: int,
        *,
        log: KafkaPartitionLog | None = None,
        clock: SystemClock | None = None,
        window_ms: int = WINDOW_MS,
        confirm_seconds: float = 0.2,
    ) -> None:
        self.cell = cell
        self.partition = partition
        self.log = log or KafkaPartitionLog(cell.kafka, cell.cell, partition, "test")
        self.observer = Quiet()
        self.relay = KafkaRelay(producer_config(cell.kafka, "test-relay"), cell.cell)
        config = OwnerConfig(
            cell=cell.cell,
            partitions=cell.partitions,
            limits=Limits(dedup_window_ms=window_ms),
            lease_seconds=60,
            confirm_seconds=confirm_seconds,
        )
        self.owner = Owner(
            partition,
            config,
            self.log,
            self.relay,
            Alive(),
            clock or SystemClock(),
            self.observer,
            asyncio.Semaphore(8),
        )
        reader = consumer_config(cell.kafka, "test-feed", f"{cell.cell}-feed")
        self._feed = LogReader(reader, cell.topic(Topic.COMMANDS), {partition: OFFSET_BEGINNING}, self._offer)

    async def _offer(self, batch: list[Message]) -> None:
        for message in batch:
            value = message.value()
            self.owner.offer(message.offset() or 0, value if isinstance(value, bytes) else b"")

    async def start(self) -> None:
        await self.relay.start()
        await self.owner.start()
        await self._feed.start()
        await asyncio.wait_for(self.owner.settled.wait(), 30)

    async def stop(self) -> None:
        await self._feed.stop()
        await self.owner.stop()
        await self.relay.stop()

    @property
    def machine(self) -> Machine:
        """The owner's memory."""
        machine = self.owner._machine
        assert machine is not None
        return machine

    async def caught_up(self) -> None:
        """Wait until everything in `commands` is decided and the memory is at rest."""
        log = Log(self.cell.kafka, self.cell.cell)
        high = await asyncio.to_thread(log.watermarks, Topic.COMMANDS, self.partition)
        log.close()

        def done() -> bool:
            machine = self.owner._machine
            return machine is not None and machine.checkpoint.offset >= high[1] and not machine.unfinished

        await until(done, 40)
        await asyncio.sleep(0.1)

    async def agreement(self) -> list[str]:
        """How the fold of the events differs from this owner's memory and from its state; nothing: not at all."""
        await self.caught_up()
        memory = await asyncio.to_thread(self.cell.differences, self.partition, self.machine)
        return memory + await asyncio.to_thread(self.cell.differences, self.partition)


def encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)
