"""Plays the owners of queues and jobs towards a worker: reads `commands`, writes `tasks`, decides nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Message

from jobledger.domain.identity import execution_id, job_stream, partition_of
from jobledger.domain.queue_commands import SetCredits
from jobledger.domain.values import Opaque
from jobledger.domain.worker_messages import CancelTask, RunTask
from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.producer import RecordProducer
from jobledger.eventlog.reader import LogReader
from jobledger.eventlog.topics import Durability, ensure_topics
from jobledger.schemas.commands import Command, read_record
from jobledger.schemas.topics import TASK_PARTITIONS, Topic, topic_name
from jobledger.schemas.worker import encode_message, join_tasks
from jobledger.settings import KafkaSettings

T = TypeVar("T")
PARTITIONS = 4


class Owners:
    """`commands` holds everything that workers have said, in order of arrival."""

    def __init__(self, bootstrap: str, cell: str) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap)
        self.cell = cell
        self.commands: list[Command] = []
        self._number = 0

    async def start(self) -> None:
        durability = Durability(replication_factor=1, min_insync_replicas=1, dev=True)
        await asyncio.to_thread(ensure_topics, self.kafka.client_config(), self.cell, PARTITIONS, durability)
        self._producer = RecordProducer(producer_config(self.kafka, "owners"))
        await self._producer.start()
        config = consumer_config(self.kafka, "owners", f"{self.cell}-owners")
        starts = dict.fromkeys(range(PARTITIONS), OFFSET_BEGINNING)
        self._reader = LogReader(config, topic_name(self.cell, Topic.COMMANDS), starts, self._take)
        await self._reader.start()

    async def stop(self) -> None:
        await self._reader.stop()
        await self._producer.stop()

    async def _take(self, batch: list[Message]) -> None:
        for message in batch:
            value = message.value()
            assert isinstance(value, bytes)
            self.commands += [one for one in read_record(value).commands if isinstance(one, Command)]

    def of(self, kind: type[T], job: str | None = None) -> list[T]:
        """Bodies of one kind, of one job where it is named."""
        stream = None if job is None else job_stream("default", job)
        return [c.body for c in self.commands if isinstance(c.body, kind) and stream in (None, c.stream)]

    async def until(self, found: Callable[[], T | None], seconds: float = 15.0) -> T:
        """The first true answer; fails after the time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = found()
            if answer:
                return answer
            await asyncio.sleep(0.005)
        said = [type(command.body).__name__ for command in self.commands]
        raise AssertionError(f"It did not happen; the workers said {said}")

    async def report(self, kind: type[T], job: str, seconds: float = 15.0) -> T:
        """The first report of that kind on a job."""
        return (await self.until(lambda: self.of(kind, job), seconds))[0]

    async def registered(self, worker: str, after: str | None = None) -> str:
        """The incarnation of a worker that grants credits (another one than `after`)."""

        return await self.until(lambda: self.incarnation_of(worker, after), 60.0)

    def incarnation_of(self, worker: str, after: str | None = None) -> str | None:
        """The newest incarnation of a worker that grants credits, if one does."""
        mine = [c for c in self.of(SetCredits) if c.worker == worker and c.credits and c.incarnation != after]
        return mine[-1].incarnation if mine else None

    async def run(self, worker: str, incarnation: str, job: str, handler: str, payload: Any, **more: Any) -> RunTask:
        """Hand a task out."""
        stream = job_stream("default", job)
        message = RunTask(
            worker=worker,
            incarnation=incarnation,
            job=stream,
            task="main",
            execution_id=execution_id(stream, "main", 1),
            attempt=more.pop("attempt", 1),
            assignment=more.pop("assignment", 1),
            handler=handler,
            queue="default",
            payload=Opaque(json.dumps(payload)),
            due_at_ms=0,
            assigned_at_ms=int(time.time() * 1000),
            **more,
        )
        await self.send(message)
        return message

    async def cancel(self, run: RunTask) -> None:
        """Tell the worker to stop a task."""
        await self.send(self.cancel_of(run))

    def cancel_of(self, run: RunTask) -> CancelTask:
        return CancelTask(
            worker=run.worker, incarnation=run.incarnation, job=run.job, task=run.task, assignment=run.assignment
        )

    async def send(self, *messages: RunTask | CancelTask) -> None:
        """One record in the inbox."""
        self._number += 1
        value = join_tasks([encode_message(one) for one in messages], 0, self._number)
        inbox = partition_of(messages[0].worker, TASK_PARTITIONS)
        await self._producer.send(topic_name(self.cell, Topic.TASKS), inbox, value)
