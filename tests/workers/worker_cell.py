"""A cell as the tests of workers use it: its owners are the product's, its jobs are submitted and cancelled."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import uuid_utils
from cell_owners import CellOwners
from confluent_kafka import OFFSET_BEGINNING, Message

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import job_stream, partition_of, queue_stream, split_stream
from jobledger.domain.job.commands import CancelJob, SubmitJob
from jobledger.domain.queue.commands import RemoveWorker, SetCredits
from jobledger.domain.values import Actor, ActorKind, Opaque, RetryPolicy
from jobledger.domain.worker_messages import CancelTask, RunTask
from jobledger.eventlog.clients import consumer_config, producer_config
from jobledger.eventlog.producer import CommandProducer, RecordProducer
from jobledger.eventlog.reader import LogReader
from jobledger.schemas.commands import Command
from jobledger.schemas.topics import TASK_PARTITIONS, Topic, topic_name
from jobledger.schemas.worker import decode_tasks, encode_message, join_tasks
from jobledger.settings import KafkaSettings

T = TypeVar("T")
PARTITIONS = 2
#: After how long a silence the owners take a worker for lost, where a test does not say otherwise.
LEASE_SECONDS = 60.0
USER = Actor(ActorKind.USER, "ann")
#: Of most jobs here: what fails is not tried again while the test lasts, and still it is not its only attempt.
LATER = RetryPolicy(max_attempts=3, initial_seconds=3_600, max_seconds=3_600)


class WorkerCell:
    """Jobs go by short names; `messages` holds what the queues have sent to inboxes, in order of arrival.

    Several tests may have it one after the other: jobs, queues and workers of each are of a tenant of its own, so that
    no queue hands out what another test has left.
    """

    def __init__(self, bootstrap: str, cell: str, lease_seconds: float) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap, replication_factor=1, min_insync_replicas=1)
        self.cell = cell
        self.owners = CellOwners(self.kafka, cell, PARTITIONS, lease_seconds)
        self.tenant = "default"
        self.messages: list[RunTask | CancelTask] = []
        self._broken: set[bytes] = set()
        #: Incarnations of workers that this test has stopped.
        self.stopped: list[str] = []
        self._jobs: dict[str, str] = {}
        self._number = 0
        self._earlier: list[str] = []
        self._begun = 0

    async def start(self) -> None:
        await self.owners.start()
        self._producer = RecordProducer(producer_config(self.kafka, "test"))
        await self._producer.start()
        self._commands = CommandProducer(self._producer, topic_name(self.cell, Topic.COMMANDS), PARTITIONS)
        config = consumer_config(self.kafka, "test", f"{self.cell}-test")
        starts = dict.fromkeys(range(TASK_PARTITIONS), OFFSET_BEGINNING)
        self._reader = LogReader(config, topic_name(self.cell, Topic.TASKS), starts, self._take)
        await self._reader.start()

    async def stop(self) -> None:
        await self._reader.stop()
        await self._producer.stop()
        await self.owners.stop()

    async def _take(self, batch: list[Message]) -> None:
        for message in batch:
            value = message.value() or b""
            sent = () if value in self._broken else decode_tasks(value).messages
            self.messages += [one for one in sent if not self._of_earlier(one.job)]

    # -- tests that have it one after the other -----------------------------------------------------------------------

    def begin(self) -> None:
        """Another test has it now, which sees nothing of those before, not even what arrives late."""
        self.tenant = f"t{len(self._earlier) + 1}"
        self.messages, self.stopped, self._jobs = [], [], {}
        self._begun = len(self.owners.sent)

    def end(self) -> None:
        """What is of the test that had it is to be seen by none after it."""
        self._earlier.append(self.tenant)

    async def left(self) -> None:
        """Wait until the workers that were stopped have told a queue that they leave."""
        await self.until(lambda: {body.incarnation for body in self.of(RemoveWorker)}.issuperset(self.stopped))

    def _of_earlier(self, stream: str) -> bool:
        """Whether a stream is of a test before. What is of no test's tenant is not: nothing wrong may stay unseen."""
        return split_stream(stream)[1] in self._earlier

    # -- what is asked of the cell ------------------------------------------------------------------------------------

    def id(self, job: str) -> str:
        """The id of a job."""
        return self._jobs.setdefault(job, str(uuid_utils.uuid7()))

    def stream(self, job: str) -> str:
        """The stream of a job."""
        return job_stream(self.tenant, self.id(job))

    async def run(
        self,
        job: str,
        handler: str,
        payload: Any,
        *,
        queue: str = "default",
        retry: RetryPolicy = LATER,
        timeout_seconds: float | None = None,
        traceparent: str | None = None,
    ) -> RunTask:
        """Submit a job; gives its first task as its queue has handed it out."""
        body = SubmitJob(
            handler=handler,
            queue=queue,
            payload=Opaque(json.dumps(payload)),
            retry=retry,
            timeout_seconds=timeout_seconds,
        )
        await self._ask(self.stream(job), body, traceparent)
        return await self.until(lambda: self._message(RunTask, job))

    async def cancel(self, job: str) -> CancelTask:
        """Cancel a job that a worker has; gives what its queue tells that worker."""
        await self._ask(self.stream(job), CancelJob())
        return await self.until(lambda: self._message(CancelTask, job))

    async def grant(self, worker: str, incarnation: str, handlers: list[str], queue: str) -> None:
        """Tell a queue that it may hand one task of these to a worker, which knows nothing of it."""
        body = SetCredits(worker=worker, incarnation=incarnation, pool="default", credits=1, handlers=handlers)
        await self._ask(queue_stream(self.tenant, queue), body)

    async def put(self, *messages: RunTask | CancelTask) -> None:
        """One record in an inbox, of messages that the queues have sent: as when a relay sends them again."""
        self._number += 1
        value = join_tasks([encode_message(one) for one in messages], 0, self._number)
        inbox = partition_of(messages[0].worker, TASK_PARTITIONS)
        await self._producer.send(topic_name(self.cell, Topic.TASKS), inbox, value)

    async def put_bytes(self, worker: str, value: bytes) -> None:
        """One record in the inbox of a worker, which is no task."""
        self._broken.add(value)
        await self._producer.send(topic_name(self.cell, Topic.TASKS), partition_of(worker, TASK_PARTITIONS), value)

    async def _ask(self, stream: str, body: AnyCommand, traceparent: str | None = None) -> None:
        given = {} if traceparent is None else {"traceparent": traceparent}
        await self._commands.send(
            Command(id=str(uuid_utils.uuid7()), stream=stream, actor=USER, body=body, reply=False, **given)
        )

    def _message(self, kind: type[T], job: str) -> T | None:
        stream = self.stream(job)
        return next((one for one in self.messages if isinstance(one, kind) and one.job == stream), None)

    # -- what workers have said ---------------------------------------------------------------------------------------

    @property
    def commands(self) -> list[Command]:
        """Everything that workers have said, in order of arrival."""
        sent = self.owners.sent[self._begun :]
        return [one for one in sent if one.actor.kind is ActorKind.WORKER and not self._of_earlier(one.stream)]

    def of(self, kind: type[T], job: str | None = None) -> list[T]:
        """Bodies of one kind that workers have sent, of one job where it is named."""
        stream = None if job is None else self.stream(job)
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
