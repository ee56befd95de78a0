"""`replay verify` on a real broker and a real Postgres: it finds nothing when all is well, and every planted fault."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from confluent_kafka import Message, Producer
from log_cell import TENANT, LogCell, OwnerAlone, PlayedWorker, submit, until
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr
from test_takeover import written_anew

from jobledger.cli.exits import Exit
from jobledger.cli.failure import sentence_of
from jobledger.domain.identity import queue_stream
from jobledger.domain.job.commands import CancelJob
from jobledger.domain.queue.state import QueueTask
from jobledger.domain.values import Lineage, Opaque
from jobledger.processors.core.state_records import (
    Stub,
    decode_state,
    encode_state,
    idempotency_key,
    part_key,
    snapshot_key,
    stub_key,
)
from jobledger.projections.migrate import migrate
from jobledger.projections.projector import Projector
from jobledger.replay.report import Report, VerifyError
from jobledger.replay.verify import verify
from jobledger.schemas.topics import Topic
from jobledger.settings import Settings
from jobledger.telemetry.metrics import Metrics

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


class Whole:
    """A cell of two partitions, with jobs in every condition, and its read models."""

    def __init__(self, cell: LogCell, dsn: str) -> None:
        self.cell, self.dsn = cell, dsn
        self.streams: dict[str, str] = {}

    def settings(self, **given: Any) -> Settings:
        values = {"cell": self.cell.cell, "partitions": 2, "postgres_dsn": self.dsn, "kafka": self.cell.kafka}
        return Settings(**{**values, **given})

    async def verify(self, **given: Any) -> Report:
        return await verify(self.settings(**given))


class AtRest(Whole):
    """Nobody writes to it any more but tests, which plant faults in partition 0; `restore()` takes them out."""

    def __init__(self, whole: Whole) -> None:
        super().__init__(whole.cell, whole.dsn)
        self.streams = whole.streams
        self._state = self._records(Topic.STATE)
        self._planted: dict[bytes, bytes | None] = {}
        self._cut: list[Message] = []

    def run(self, statement: str) -> int:
        """Change the read models; ask for `own_rows` before."""
        with psycopg.connect(self.dsn, options="-c search_path=jobledger") as connection:
            return connection.execute(statement.encode()).rowcount

    def state(self, key: bytes, value: bytes | None) -> None:
        """Write to `state` behind everybody's back."""
        self._planted[key] = value
        self._produce(Topic.STATE, [(key, value, [])])

    def last_state(self, key: bytes) -> Any:
        record = {**self._state, **self._planted}[key]
        assert record is not None
        return decode_state(record)

    def encoded(self, key: bytes) -> bytes:
        return encode_state(self.last_state(key))

    def cut_events(self, count: int) -> None:
        """Lose the last events."""
        self._cut = self.cell.records(Topic.EVENTS, 0)[-count:]
        written_anew(self.cell, Topic.EVENTS, lambda p, m: m[:-count] if p == 0 else m)

    def restore(self) -> None:
        """The last record of a key counts, and of the events their order: writing the old ones again is enough."""
        self._produce(Topic.STATE, [(key, self._state.get(key), []) for key in self._planted])
        self._produce(Topic.EVENTS, [(m.key(), m.value(), m.headers() or []) for m in self._cut])
        self._planted, self._cut = {}, []

    def _records(self, topic: Topic) -> dict[bytes, bytes | None]:
        return {m.key() or b"": m.value() for m in self.cell.records(topic, 0)}

    def _produce(self, topic: Topic, records: list[tuple[Any, Any, Any]]) -> None:
        if not records:
            return
        producer = Producer({"bootstrap.servers": self.cell.kafka.bootstrap_servers})
        for key, value, headers in records:
            producer.produce(self.cell.topic(topic), value, key, 0, headers=headers)
        assert producer.flush(10) == 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is missing here is on its way."""
    wait_at_most(2.0, monkeypatch)


def wait_at_most(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("state", "verify"):
        monkeypatch.setattr(f"jobledger.replay.{module}.CATCH_UP_SECONDS", seconds)


@asynccontextmanager
async def living(bootstrap_servers: str, cell: str, postgres_dsn: str) -> AsyncIterator[Whole]:
    """Owners and projector run, and all that has happened is in the read models."""
    log_cell = LogCell(bootstrap_servers, cell, partitions=2)
    await log_cell.start()
    migrate(postgres_dsn, "jobledger")
    owners = [OwnerAlone(log_cell, p) for p in range(2)]
    for owner in owners:
        await owner.start()
    dsn = SecretStr(postgres_dsn)
    settings = Settings(kafka=log_cell.kafka, cell=cell, postgres_dsn=dsn, session_timeout_seconds=2.0)
    projector = Projector(settings, Metrics("projector", instance_id="t"))
    await projector.start()
    one = Whole(log_cell, postgres_dsn)
    await live(one, owners)
    await until(lambda: projector.positions == {o.partition: o.machine.checkpoint.seq for o in owners})
    yield one
    await projector.stop()
    for owner in owners:
        await owner.stop()
    await log_cell.stop()


@pytest.fixture(scope="module")
def at_rest(module_ground: Any) -> AtRest:
    """One cell for all tests that find it as it was left: who plants a fault takes it out again."""

    async def prepare() -> Whole:
        async with living(*module_ground) as one:
            return one

    return AtRest(asyncio.run(prepare()))


@pytest.fixture
def whole(at_rest: AtRest, monkeypatch: pytest.MonkeyPatch) -> Iterator[AtRest]:
    """The cell at rest: whatever its partitions hold is read before the first wait."""
    wait_at_most(0.5, monkeypatch)
    yield at_rest
    at_rest.restore()


@pytest.fixture
def own_rows(whole: AtRest) -> Iterator[None]:
    """The read models are a copy, for this test alone to change."""
    shared, copy = whole.dsn, f"t_{uuid.uuid4().hex[:12]}"
    names = {"copy": sql.Identifier(copy), "shared": sql.Identifier(str(conninfo_to_dict(shared)["dbname"]))}
    with psycopg.connect(make_conninfo(shared, dbname="postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {copy} TEMPLATE {shared}").format(**names))
        whole.dsn = make_conninfo(shared, dbname=copy)
        yield
        whole.dsn = shared
        admin.execute(sql.SQL("DROP DATABASE {copy} WITH (FORCE)").format(**names))


async def live(one: Whole, owners: list[OwnerAlone]) -> None:
    """Jobs that wait, are held, have ended, are scheduled, are cancelled."""
    cell = one.cell
    queue = cell.queue_on(0)
    worker = PlayedWorker(cell, queue, credits=4)
    await worker.register()
    names = ["done", "keyed", "held", "held2", "held3", "waiting", "text", "waiting2"]
    for name in names:
        body = submit(queue=queue, payload=Opaque('"nul \\u0000 in it"'), lineage=Lineage(tags={"a": "b"}))
        if name == "keyed":
            body = submit(queue=queue, key_digest="digest-1", request_digest="r")
        one.streams[name] = cell.job_on(0)
        await cell.ask(one.streams[name], body)
    one.streams["later"], one.streams["cancelled"] = cell.job_on(1), cell.job_on(1)
    for name in ("later", "cancelled"):
        await cell.ask(one.streams[name], submit(queue=queue, due_at_ms=time.time_ns() // 1_000_000 + 600_000))
    await cell.ask(one.streams["cancelled"], CancelJob())
    tasks = await until(lambda: len(worker.tasks()) == 4 and worker.tasks())
    for task in tasks:
        if task.job in (one.streams["done"], one.streams["keyed"]):
            await worker.succeed(task)
    await until(lambda: len(worker.tasks()) == 6)
    for owner in owners:
        await owner.caught_up()
    one.streams["queue"] = queue_stream(TENANT, queue)


async def test_nothing_differs_when_all_is_well(whole: AtRest) -> None:
    seen: list[tuple[int, int, int]] = []
    report = await verify(whole.settings(), lambda *args: seen.append(args))
    assert report.ok, list(report.lines())
    assert report.state_vector == report.read_model_vector and sum(report.state_vector.values()) == report.events
    assert report.events > 40 and report.streams == 11 and report.rows > report.events
    assert seen[-1] == (report.events, 2, 2)
    assert "no difference" in list(report.lines())[-1]


Plant = Callable[[AtRest], Any]


def snapshot(name: str, **changed: Any) -> Plant:
    def plant(whole: AtRest) -> None:
        key = snapshot_key(whole.streams[name])
        found = whole.last_state(key)
        for field, value in changed.items():
            setattr(found, field, value)
        whole.state(key, encode_state(found))

    return plant


def task(name: str, value: Callable[[QueueTask], QueueTask | None]) -> Plant:
    def plant(whole: AtRest) -> None:
        key = part_key("t", whole.streams["queue"], f"{whole.streams[name]}/main")
        found = value(whole.last_state(key))
        whole.state(key, None if found is None else encode_state(found))

    return plant


def other_priority(found: QueueTask) -> QueueTask:
    found.priority = 1
    return found


def stub(whole: AtRest) -> None:
    key = stub_key(whole.streams["done"])
    found: Stub = whole.last_state(key)
    whole.state(key, encode_state(Stub(**{**{f: getattr(found, f) for f in found.__struct_fields__}, "version": 9})))


def checkpoint(**changed: Any) -> Plant:
    def plant(whole: AtRest) -> None:
        found = whole.last_state(b"c|")
        for field, value in changed.items():
            setattr(found, field, value)
        whole.state(b"c|", encode_state(found))

    return plant


STATE_FAULTS: list[tuple[Plant, str]] = [
    (snapshot("waiting", priority=1), "waiting"),
    (lambda w: w.state(snapshot_key(w.streams["held"]), None), "held"),
    (lambda w: w.state(snapshot_key("job:default:x"), w.encoded(snapshot_key(w.streams["text"]))), "job:default:x"),
    (snapshot("queue", enqueued=99), "queue"),
    (task("text", other_priority), "text"),
    (task("held3", lambda _: None), "held3"),
    (stub, "done"),
    (lambda w: w.state(stub_key(w.streams["keyed"]), None), "keyed"),
    (lambda w: w.state(stub_key("job:default:y"), w.encoded(stub_key(w.streams["done"]))), "job:default:y"),
    (lambda w: w.state(idempotency_key(TENANT, "digest-1"), None), "digest-1"),
]
CHECKPOINT_FAULTS = [
    (checkpoint(seq=3), "checkpoint's seq"),
    (checkpoint(offset=1, index=0), "behind command"),
    (checkpoint(now_ms=5), "checkpoint's time"),
]


async def test_every_fault_in_the_state_is_found(whole: AtRest) -> None:
    for plant, _ in STATE_FAULTS:
        await asyncio.to_thread(plant, whole)
    report = await whole.verify()
    found = [str(difference) for difference in report.differences]
    for _, named in STATE_FAULTS:
        assert any(whole.streams.get(named, named) in difference for difference in found), (named, found)
    assert all("read model" not in difference for difference in found)
    assert report.difference_count == len(found) == len(STATE_FAULTS)


@pytest.mark.parametrize(("plant", "named"), CHECKPOINT_FAULTS)
async def test_a_wrong_checkpoint_is_found(whole: AtRest, plant: Plant, named: str) -> None:
    await asyncio.to_thread(plant, whole)
    report = await whole.verify()
    assert any(named in str(difference) for difference in report.differences)


ROW_FAULTS = [
    ("UPDATE jobs SET status = 'RUNNING' WHERE status = 'SUCCEEDED'", "status"),
    ("UPDATE jobs SET version = version + 1 WHERE status = 'SCHEDULED'", "version"),
    ("DELETE FROM jobs WHERE status = 'CANCELLED'", "jobs"),
    ("UPDATE attempts SET outcome = 'LOST' WHERE outcome = 'SUCCEEDED'", "outcome"),
    ("DELETE FROM attempts WHERE outcome IS NULL", "attempts"),
    ("UPDATE queues SET waiting = waiting + 1", "waiting"),
    ("DELETE FROM waiting_tasks", "waiting_tasks"),
    ("UPDATE workers SET held = 0", "held"),
    ("UPDATE events SET data = data || ' ' WHERE seq = 3", "seq 3"),
    ("DELETE FROM events WHERE seq = 2", "seq 2"),
    (
        "INSERT INTO attempts SELECT tenant, job_id, task, 77, execution_id, attempt, cause, ready_at_ms"
        " FROM attempts LIMIT 1",
        "number of rows",
    ),
]


@pytest.mark.usefixtures("own_rows")
async def test_every_fault_in_the_read_models_is_found(whole: AtRest) -> None:
    for statement, _ in ROW_FAULTS:
        assert whole.run(statement) > 0, statement
    report = await whole.verify()
    for _, named in ROW_FAULTS:
        assert any(named in str(difference) for difference in report.differences), (named, report.differences)
    assert all("read model" in difference.where for difference in report.differences)


@pytest.mark.usefixtures("own_rows")
async def test_positions_that_say_less_than_the_rows_are_found(whole: AtRest) -> None:
    assert whole.run("UPDATE positions SET seq = seq - 1") == 2
    report = await whole.verify()
    assert any("read model, events" in difference.where for difference in report.differences)


async def test_a_shortened_log_is_found(whole: AtRest) -> None:
    """Events cut from the end: state and read models are ahead of the log."""
    await asyncio.to_thread(whole.cut_events, 3)
    report = await whole.verify()
    assert any("partition 0, events: last seq" in str(difference) for difference in report.differences)


async def test_what_cannot_be_compared_is_one_sentence(whole: AtRest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number of partitions, a cell that isn't there, Postgres or Kafka away."""
    monkeypatch.setattr("jobledger.replay.log.METADATA_SECONDS", 1.0)  # so long it tries to find Kafka
    nowhere = whole.cell.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    for given, words, status in (
        ({"partitions": 4}, "set JOBLEDGER_PARTITIONS=2", Exit.UNUSABLE),
        ({"cell": "nobody"}, "does not exist", Exit.UNUSABLE),
        ({"postgres_dsn": "postgresql://127.0.0.1:9/x"}, "JOBLEDGER_POSTGRES_DSN", Exit.UNREACHABLE),
        ({"postgres_schema": "elsewhere"}, "start a projector first", Exit.UNREACHABLE),
        ({"kafka": nowhere}, r"Kafka at 127\.0\.0\.1:9 can't be reached", Exit.UNREACHABLE),
    ):
        with pytest.raises(VerifyError, match=words) as caught:
            await whole.verify(**given)
        told = sentence_of(caught.value)
        assert told is not None and told.status is status, given


async def test_it_agrees_while_everything_moves(bootstrap_servers: str, cell: str, postgres_dsn: str) -> None:
    """Owners and projector go on deciding while it reads: it compares at the positions that it found."""
    async with living(bootstrap_servers, cell, postgres_dsn) as whole:
        mover = asyncio.create_task(move(whole.cell))
        before = 0
        for _ in range(4):
            report = await whole.verify()
            assert report.ok, list(report.lines())
            assert report.events > before
            before = report.events
            await asyncio.sleep(0.3)
        assert not mover.done()
        mover.cancel()


async def move(cell: LogCell) -> None:
    """Jobs come and end, without end."""
    worker = PlayedWorker(cell, cell.queue_on(0), credits=50)
    await worker.register()
    done = 0
    while True:
        for _ in range(10):
            await cell.send(cell.job_on(done % 2), submit(queue=cell.queue_on(0)))
        for one in worker.tasks()[done:]:
            await worker.succeed(one)
            done += 1
        await asyncio.sleep(0.02)
