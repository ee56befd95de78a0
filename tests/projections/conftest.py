"""Histories as an owner would write them, made with the domain's own functions, and the read models' fixtures."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
import stamina
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from psycopg import sql
from pydantic import SecretStr

from jobledger.domain import aggregates
from jobledger.domain.aggregates import AGGREGATES, kind_of
from jobledger.domain.effects import FollowUp
from jobledger.domain.identity import job_stream, partition_of, queue_stream, split_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.state import Job, JobStatus, next_timer_ms
from jobledger.domain.queue import commands as qc
from jobledger.domain.queue.state import QueueState
from jobledger.domain.values import SYSTEM, Actor, ActorKind, Answer, Lineage, Opaque, Rejection, RetryPolicy
from jobledger.domain.worker_messages import CancelTask, RunTask
from jobledger.projections.memory import MemoryTables
from jobledger.projections.migrate import migrate
from jobledger.projections.projector import Projector
from jobledger.projections.tables import TABLES
from jobledger.schemas.events import EventRecord, MsgspecTranscoder, cloudevents_headers
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings, Settings
from jobledger.telemetry.metrics import Metrics

# As the role does: the library's own lines go through whatever logging another test has configured.
stamina.instrumentation.set_on_retry_hooks([])


TENANT = "default"
START_MS = 1_800_000_000_000
Start = Callable[..., Awaitable[Projector]]
USER = Actor(ActorKind.USER, "ann")


class History:
    """A cell in memory: commands are decided as they come; `logs` are the event logs by partition."""

    def __init__(self, partitions: int = 4, seed: int = 1) -> None:
        self.partitions = partitions
        self.random = random.Random(seed)
        self.now = START_MS
        self.states: dict[str, Any] = {}
        self.logs: dict[int, list[EventRecord]] = {p: [] for p in range(partitions)}
        self.inbox: deque[RunTask | CancelTask] = deque()
        self.jobs: list[str] = []
        self.workers: dict[str, str] = {}
        self._ids = uuid.UUID(int=self.random.getrandbits(128))
        self._made = 0
        self._old = False

    def new_id(self) -> str:
        self._made += 1
        return str(uuid.uuid5(self._ids, str(self._made)))

    def send(self, stream: str, body: Any, actor: Actor = SYSTEM) -> None:
        """Decide a command and everything that follows from it."""
        waiting = deque([(stream, body, actor, self.new_id(), None)])
        while waiting:
            stream, body, actor, command_id, cause = waiting.popleft()
            state = self.states.get(stream)
            decision = AGGREGATES[stream.split(":")[0]].decide(stream, state, body, self.now)
            if isinstance(decision, Rejection | Answer):
                continue
            for event in decision:
                record, state = self._append(stream, state, event, body, actor, command_id, cause)
                for effect in AGGREGATES[stream.split(":")[0]].react(state, event):
                    if isinstance(effect, FollowUp):
                        waiting.append((effect.stream, effect.body, SYSTEM, self.new_id(), record.id))
                    else:
                        self.inbox.append(effect.message)

    def _append(self, stream: str, state: Any, event: Any, body: Any, actor: Actor, command: str, cause: Any) -> Any:
        lineage = body.lineage if isinstance(body, jc.SubmitJob) else Lineage()
        if isinstance(state, Job):
            lineage = state.lineage
        partition = partition_of(stream, self.partitions)
        log = self.logs[partition]
        record = EventRecord(
            id=self.new_id(),
            originator_id=stream,
            originator_version=aggregates.head(state).version + 1 if state else 1,
            seq=len(log) + 1,
            tenant=split_stream(stream)[1],
            at_ms=self.now,
            command_id=command,
            actor=actor,
            data=event,
            causation_id=cause,
            lineage=lineage,
            status_after=self._status_after(stream, state, event),
        )
        log.append(record)
        state = self.states[stream] = aggregates.mutate(state, record)
        return record, state

    def _status_after(self, stream: str, state: Any, event: Any) -> str | None:
        """Every other event is one from before it was written."""
        kind = kind_of(stream)
        self._old = not self._old
        return None if self._old else kind.status_after(state and kind.status(state), event)

    # -- what happens -------------------------------------------------------------------------------------------------

    def submit(self, **given: Any) -> str:
        job_id = self.new_id()
        values: dict[str, Any] = {"handler": "noop", "queue": "default", "payload": Opaque('{"n":1}')} | given
        self.send(job_stream(TENANT, job_id), jc.SubmitJob(**values), USER)
        self.jobs.append(job_id)
        return job_id

    def begin_again(self, job_id: str) -> None:
        """The stream of a job that has ended begins a second time, as owners once let it, and ends again."""
        stream = job_stream(TENANT, job_id)
        assert self.states[stream].ended_with_stub
        del self.states[stream]
        due = self.now + 1_000
        body = jc.SubmitJob(handler="again", queue="default", payload=Opaque('{"n":2}'), due_at_ms=due)
        self.send(stream, body, USER)
        self.send(stream, jc.CancelJob(), USER)

    def register(self, queue: str, credits: int = 4) -> str:
        incarnation = self.new_id()
        self.workers[incarnation] = queue
        body = qc.SetCredits(
            worker=f"w-{incarnation[:4]}", incarnation=incarnation, pool="p", credits=credits, handlers=["noop", "x"]
        )
        self.send(queue_stream(TENANT, queue), body)
        return incarnation

    def dispatch(self) -> None:
        for stream, state in list(self.states.items()):
            if isinstance(state, QueueState):
                self.send(stream, qc.DispatchTasks())

    def tick(self, ms: int) -> None:
        """Time passes; what is due is marked."""
        self.now += ms
        for stream, state in list(self.states.items()):
            at = next_timer_ms(state) if isinstance(state, Job) else None
            if at is not None and at <= self.now:
                self.send(stream, jc.MarkDue(task="main", due_at_ms=at))

    def work(self, message: RunTask | CancelTask, how: str) -> None:
        """A worker reports on a task."""
        common: dict[str, Any] = {
            "task": message.task,
            "assignment": message.assignment,
            "worker": message.worker,
            "incarnation": message.incarnation,
        }
        if isinstance(message, CancelTask):
            self.send(message.job, jc.ReportCancelled(**common, ended_at_ms=self.now))
            return
        times = {"assigned_at_ms": message.assigned_at_ms, "started_at_ms": self.now}
        reports = {
            "succeed": lambda: jc.ReportSucceeded(**common, **times, ended_at_ms=self.now, result=Opaque("42")),
            "start": lambda: jc.ReportStarted(**common, **times),
            "fail": lambda: jc.ReportFailed(
                **common,
                **times,
                ended_at_ms=self.now,
                kind=jc.FailureKind.FAILED,
                error_type="ValueError",
                error=Opaque('tab\there, line\nbreak, back\\slash, nul\0, "quote", žluťoučký', "text"),
            ),
            "timeout": lambda: jc.ReportFailed(
                **common,
                **times,
                ended_at_ms=self.now,
                kind=jc.FailureKind.TIMEOUT,
                error_type="TimeoutError",
                error=Opaque("too long", "text"),
                retryable=False,
            ),
            "checkpoint": lambda: jc.ReportCheckpoint(
                **common, **times, saved_at_ms=self.now, checkpoint=Opaque('{"at":7}')
            ),
            "return": lambda: jc.ReportReturned(**common, reason="stopping"),
        }
        self.send(message.job, reports[how]())
        if how in ("start", "checkpoint"):
            self.inbox.append(message)

    def live(self, jobs: int) -> History:
        """Everything that can happen, at random, around so many jobs."""
        queues = ["default", "mail"]
        for queue in queues:
            self.register(queue)
        while len(self.jobs) < jobs or self.inbox:
            self._step(queues, jobs)
        for _ in range(20):
            self.tick(400_000)
            self.dispatch()
            while self.inbox:
                self.work(self.inbox.popleft(), "succeed")
        return self

    def _step(self, queues: list[str], jobs: int) -> None:
        rnd = self.random
        for _ in range(rnd.randint(0, 4) if len(self.jobs) < jobs else 0):
            self.submit(
                queue=rnd.choice(queues),
                priority=rnd.randint(1, 5),
                due_at_ms=rnd.choice([None, self.now + rnd.randint(1, 60_000)]),
                payload=Opaque('{"text":"%s"}' % ("x" * rnd.randint(0, 40))),
                retry=RetryPolicy(max_attempts=rnd.randint(1, 3)),
                lineage=Lineage(tags=rnd.choice([{}, {"team": "x"}, {"team": "y", 'k"\\': "v\t"}])),
                timeout_seconds=rnd.choice([None, 1.5]),
                expected_duration_seconds=rnd.choice([None, 10.0, 301.0]),
            )
        if rnd.random() < 0.4 and self.jobs:
            job = job_stream(TENANT, rnd.choice(self.jobs[-12:]))
            self.send(job, jc.CancelJob(reason=rnd.choice([None, Opaque("no more", "text")])), USER)
        self._mind_dead_letters()
        if rnd.random() < 0.05:
            self._change_workers()
        self.dispatch()
        ways = ["succeed", "succeed", "start", "fail", "timeout", "return", "checkpoint"]
        for _ in range(rnd.randint(0, len(self.inbox))):
            self.work(self.inbox.popleft(), rnd.choice(ways))
        self.tick(rnd.randint(1, 3_000))

    def _mind_dead_letters(self) -> None:
        for job_id in self.jobs[-30:]:
            job = self.states[job_stream(TENANT, job_id)]
            if job.status is JobStatus.DEAD_LETTERED and self.random.random() < 0.2:
                kind = self.random.choice([jc.RedriveJob, jc.DiscardJob])
                self.send(job.id, kind(reason=Opaque("looked at", "text")), USER)

    def _change_workers(self) -> None:
        incarnation = self.random.choice(list(self.workers))
        queue = self.workers[incarnation]
        stream = queue_stream(TENANT, queue)
        lost = qc.ExpireLease(worker=f"w-{incarnation[:4]}", incarnation=incarnation)
        more = qc.SetCredits(
            worker=f"w-{incarnation[:4]}", incarnation=incarnation, pool="p", credits=6, handlers=["noop"]
        )
        self.send(stream, self.random.choice([lost, more]))
        if incarnation not in self.states[stream].workers or self.states[stream].workers[incarnation].lost:
            del self.workers[incarnation]
            self.register(queue)
        self.send(stream, qc.UpdateQueue(description=f"at {self.now}"), USER)

    @property
    def vector(self) -> dict[int, int]:
        return {p: len(log) for p, log in self.logs.items() if log}

    def expected(self) -> MemoryTables:
        """The tables after the whole history."""
        tables = MemoryTables()
        for partition, log in self.logs.items():
            tables.fold_records(partition, log)
        return tables


@pytest.fixture
def history() -> History:
    """Some 150 jobs and all that can happen to them, on 4 partitions."""
    return History().live(150)


@pytest.fixture
def make_history() -> type[History]:
    return History


class Log:
    """The events topic of a cell."""

    def __init__(self, bootstrap: str, cell: str, partitions: int) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap)
        self.cell = cell
        self.topic = topic_name(cell, Topic.EVENTS)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_topics([NewTopic(self.topic, partitions, 1)]).values():
            future.result(15)
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0})
        self._encode = MsgspecTranscoder().encode

    def set_config(self, values: dict[str, str]) -> None:
        """Change settings of the topic."""
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in values.items()
        ]
        admin = AdminClient(self.kafka.client_config())
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.topic, incremental_configs=changes)
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(15)

    def write(self, partition: int, records: list[EventRecord]) -> None:
        for record in records:
            self.write_raw(partition, self._encode(record), cloudevents_headers(record, b"/cells/t"))
        self.flush()

    def write_raw(self, partition: int, value: bytes, headers: Any = None) -> None:
        self._producer.produce(self.topic, value, partition=partition, headers=headers or [])
        self._producer.poll(0)

    def write_all(self, history: History) -> None:
        for partition, log in history.logs.items():
            self.write(partition, log)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


@pytest.fixture
def make_log(bootstrap_servers: str, cell: str) -> Callable[[int], Log]:
    return lambda partitions: Log(bootstrap_servers, cell, partitions)


@pytest.fixture
def log(make_log: Callable[[int], Log]) -> Log:
    """An events topic of 4 partitions."""
    return make_log(4)


class Tables:
    """Looks at the tables of a schema."""

    def __init__(self, dsn: str, schema: str = "jobledger") -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))

    def rows(self, table: str) -> dict[Any, dict[str, Any]]:
        found = next(t for t in TABLES if t.name == table)
        cursor = self._connection.execute(f"SELECT {', '.join(found.columns)} FROM {table}")
        width = len(found.key)
        return {row[:width]: dict(zip(found.columns, row, strict=True)) for row in cursor}

    def projected(self, history: History) -> bool:
        """Whether the tables exist and hold the whole history."""
        try:
            return self.vector() == history.vector
        except psycopg.errors.UndefinedTable:
            return False

    def check(self, history: History) -> None:
        """Every row is as the fold in memory has it."""
        expected = history.expected()
        for table in TABLES:
            assert self.rows(table.name) == expected.rows[table.name], table.name

    def vector(self) -> dict[int, int]:
        return dict(self._connection.execute("SELECT partition, seq FROM positions").fetchall())

    def run(self, statement: str, *params: Any) -> None:
        self._connection.execute(statement, params)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def tables(postgres_dsn: str) -> Iterator[Tables]:
    found = Tables(postgres_dsn)
    yield found
    found.close()


@pytest.fixture
async def start(postgres_dsn: str, log: Any) -> AsyncIterator[Start]:
    """Starts projectors of the cell, which are stopped at the end."""
    migrate(postgres_dsn, "jobledger")
    started: list[Projector] = []

    async def one(instance: str = "", dsn: str = postgres_dsn, topic_id: str = "", **given: Any) -> Projector:
        settings = Settings(kafka=log.kafka, cell=log.cell, postgres_dsn=SecretStr(dsn), instance_id=instance, **given)
        metrics = Metrics("projector", instance_id=instance or "t", strict=True)
        projector = Projector(settings, metrics, topic_id)
        await projector.start()
        started.append(projector)
        return projector

    yield one
    for projector in started:
        await projector.stop()


Condition = Callable[[], bool]


async def _until(condition: Condition, seconds: float = 20.0, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(pause)


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Waits for a condition."""
    return _until
