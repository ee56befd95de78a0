"""The queries, over tables that were written by the fold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from jobledger.domain.queue import commands as qc
from jobledger.domain.values import Opaque
from jobledger.projections import read_model
from jobledger.projections.changes import Changes
from jobledger.projections.event_reader import EventReader
from jobledger.projections.fold import fold
from jobledger.projections.gauges import ReadModelGauges
from jobledger.projections.migrate import migrate
from jobledger.projections.pages import JobFilter, JobOrder, PoolNow
from jobledger.projections.read_model import ReadModel, ReadModelUnavailableError
from jobledger.projections.writer import Advance, Writer, connect
from jobledger.schemas.events import MsgspecTranscoder, type_name
from jobledger.telemetry.metrics import Metrics

pytestmark = pytest.mark.postgres
T = "default"


def write(dsn: str, partition: int, records: list[Any], expected: int = 0) -> None:
    encode, reader, changes = MsgspecTranscoder().encode, EventReader(), Changes()
    for record in records:
        value = encode(record)
        fold(changes, reader.read(value, list), partition, value)
    writer = Writer(connect(dsn, "jobledger"))
    writer.positions([partition])
    seq = records[-1].seq
    writer.write(changes, [Advance(partition, expected, seq, seq, records[-1].at_ms)])
    writer.close()


@pytest.fixture
async def model(history: Any, postgres_dsn: str) -> AsyncIterator[ReadModel]:
    migrate(postgres_dsn, "jobledger")
    for partition, log in history.logs.items():
        write(postgres_dsn, partition, log)
    found = ReadModel(postgres_dsn, max_size=3)
    await found.start()
    yield found
    await found.stop()


async def test_a_job_is_read_whole(model: ReadModel, history: Any) -> None:
    """Text of users comes back with its encoding, the lineage with its tags; another tenant sees nothing."""
    rows = history.expected().rows["jobs"]
    job_id = next(key[1] for key, row in rows.items() if row["error"] and row["tags"])
    row = await model.job(T, job_id)
    assert row is not None
    wanted = rows[T, job_id]
    assert row.payload == Opaque(wanted["payload"], "json")
    assert row.error is not None
    assert row.error.data.startswith("to" if "long" in wanted["error"] else "tab\there, line\nbreak, back\\slash, nul␀")
    assert row.lineage.tags == wanted["tags"]
    assert row.max_attempts == row.retry.max_attempts
    assert await model.job("other", job_id) is None
    attempts = await model.attempts(T, job_id)
    assert [a.assignment for a in attempts] == list(range(1, row.assignment + 1))
    assert await model.attempts_of(T, ["nobody"]) == {"nobody": []}


@pytest.mark.parametrize("order", list(JobOrder))
async def test_pages_of_jobs_are_complete_and_in_order(model: ReadModel, history: Any, order: JobOrder) -> None:
    """Walking through the pages gives each job once, in the order asked for."""
    seen, after = [], None
    while True:
        page = await model.jobs(T, first=17, after=after, order=order, with_payload=False)
        seen += page.items
        if not page.has_next:
            break
        after = page.items[-1].cursor
    assert sorted(row.id for row in seen) == sorted(history.jobs)
    keys = [row.cursor for row in seen]
    assert keys == sorted(keys, reverse=order is JobOrder.NEWEST_FIRST)
    assert seen[0].payload is None


async def test_filters_give_what_the_rows_say(model: ReadModel, history: Any) -> None:
    """Each filter, against the fold in memory."""
    rows = history.expected().rows["jobs"].values()
    middle = sorted(row["submitted_at_ms"] for row in rows)[len(rows) // 2]
    cases: list[tuple[JobFilter, Any]] = [
        (JobFilter(statuses=("DEAD_LETTERED", "CANCELLED")), lambda r: r["status"] in ("DEAD_LETTERED", "CANCELLED")),
        (JobFilter(statuses=("SUCCEEDED",)), lambda r: r["status"] == "SUCCEEDED"),
        (JobFilter(queues=("mail",), priorities=(1, 2)), lambda r: r["queue"] == "mail" and r["priority"] < 3),
        (JobFilter(tags={"team": "y"}), lambda r: r["tags"].get("team") == "y"),
        (JobFilter(tags={'k"\\': "v\t"}, handlers=("noop",)), lambda r: 'k"\\' in r["tags"]),
        (JobFilter(submitted_from_ms=middle), lambda r: r["submitted_at_ms"] >= middle),
        (JobFilter(submitted_before_ms=middle), lambda r: r["submitted_at_ms"] < middle),
        (JobFilter(due_before_ms=middle), lambda r: r["due_at_ms"] < middle),
        (JobFilter(ended_from_ms=middle), lambda r: r["ended_at_ms"] is not None and r["ended_at_ms"] >= middle),
        (JobFilter(ids=(history.jobs[3],)), lambda r: r["id"] == history.jobs[3]),
        (JobFilter(worker="nobody"), lambda r: False),
        (JobFilter(key_digest="none", parent="p", root="r", retry_of="o", schedule="s", workflow="w"), lambda r: False),
    ]
    for wanted, holds in cases:
        page = await model.jobs(T, wanted, first=1000)
        assert {row.id for row in page.items} == {r["id"] for r in rows if holds(r)}, wanted
    with pytest.raises(ValueError, match="first is 1001"):
        await model.jobs(T, first=1001)


async def test_dead_letters_come_newest_end_first(model: ReadModel, history: Any) -> None:
    """All of them, over pages, by the time they ended."""
    first = await model.dead_letters(T, first=3)
    rest = await model.dead_letters(T, first=1000, after=first.items[-1].ended_cursor)
    seen = [*first.items, *rest.items]
    expected = [r for r in history.expected().rows["jobs"].values() if r["status"] == "DEAD_LETTERED"]
    assert {row.id for row in seen} == {row["id"] for row in expected}
    assert [row.ended_cursor for row in seen] == sorted((row.ended_cursor for row in seen), reverse=True)
    assert all(row.dead_letter_cause for row in seen)


async def test_the_history_of_a_job_is_its_events(model: ReadModel, history: Any) -> None:
    """In order of version, resumable, typed again on demand; by command only for commands of people."""
    job_id = history.jobs[0]
    records = [r for log in history.logs.values() for r in log if r.originator_id == f"job:default:{job_id}"]
    page = await model.job_events(T, job_id, first=2)
    rest = await model.job_events(T, job_id, after=2)
    assert page.has_next == (len(records) > 2)
    rows = [*page.items, *rest.items]
    assert [row.version for row in rows] == list(range(1, len(records) + 1))
    assert [row.type for row in rows] == [type_name(r.data) for r in records]
    assert rows[0].record() == records[0]
    of_command = await model.command(T, records[0].command_id)
    assert of_command[0].record() == records[0]
    assert await model.command("other", records[0].command_id) == []


async def test_queues_and_workers(model: ReadModel, history: Any) -> None:
    """Pages by name; counts as in the domain; nothing of another tenant."""
    page = await model.queues(T, first=1)
    assert [row.name for row in page.items] == ["default"]
    assert page.has_next
    assert [row.name for row in (await model.queues(T, after="default")).items] == ["mail"]
    queue = await model.queue(T, "mail")
    assert queue is not None
    assert queue.waiting == len(history.states["queue:default:mail"].lanes.tasks) - queue.held
    assert queue.enqueued == queue.waiting + queue.assigned + queue.withdrawn
    workers = await model.workers(T, first=1)
    more = await model.workers(T, after=workers.items[-1].cursor)
    live = {i for q in ("default", "mail") for i in history.states[f"queue:default:{q}"].workers}
    assert {row.incarnation for row in [*workers.items, *more.items]} == live
    assert (await model.queues("other")).items == (await model.workers("other")).items == []


async def test_overdue_counts_jobs_that_wait_for_a_time_gone_by(model: ReadModel, history: Any) -> None:
    """None at the time of the history."""
    assert (await model.overdue(history.now)).count == 0
    assert (await model.overdue(history.now, "other")).oldest_due_at_ms is None


def pool_commands() -> list[tuple[Any, str]]:
    """What happens to workers, and in which queue."""

    def credits(worker: str, incarnation: str, count: int, pool: str = "blue") -> qc.SetCredits:
        return qc.SetCredits(worker=worker, incarnation=incarnation, pool=pool, credits=count, handlers=["noop"])

    return [
        (credits("w-1", "i-1", 2), "q1"),
        (credits("w-1", "i-1", 2), "q2"),  # one worker, whatever queues it serves
        (credits("w-2", "i-2", 4), "q1"),
        (qc.ExpireLease(worker="w-2", incarnation="i-2"), "q1"),  # gone without a word, and forgotten by the queue
        (credits("w-3", "i-3", 4), "q1"),
        (qc.ExpireLease(worker="w-3", incarnation="i-3"), "q1"),
        (credits("w-3", "i-3b", 4), "q1"),  # it has come back
        (credits("w-4", "i-4", 4), "q1"),
        (credits("w-4", "i-4", 0), "q1"),  # it drains
        (credits("w-5", "i-5", 4), "q1"),
        (qc.RemoveWorker(worker="w-5", incarnation="i-5"), "q1"),  # it has drained
        (credits("w-6", "i-6", 4, pool="green"), "q1"),
        (qc.ExpireLease(worker="w-6", incarnation="i-6"), "q1"),
    ]


@pytest.mark.scenario(
    "a projector runs",
    emits=(
        "jobledger_database_connections",
        "jobledger_database_connections_limit",
        "jobledger_overdue_jobs",
        "jobledger_workers_healthy",
        "jobledger_workers_registered",
        "worker_utilization",
    ),
)
async def test_a_pool_that_has_died_is_seen_for_an_hour(postgres_dsn: str, make_history: Any) -> None:
    """Queues forget lost workers at once; those that left in good order are nobody's loss."""
    migrate(postgres_dsn, "jobledger")
    history = make_history(partitions=1)
    history.now = time.time_ns() // 1_000_000 - 60_000
    history.submit(due_at_ms=history.now + 30_000)  # no scheduler will be there then
    history.now += 60_000
    done = 0
    for body, queue in pool_commands():  # each in a batch of its own, but for the first ones of w-6 and w-3
        history.send(f"queue:{T}:{queue}", body)
        if not isinstance(body, qc.SetCredits) or body.worker not in ("w-3", "w-6"):
            write(postgres_dsn, 0, history.logs[0][done:], done)
            done = len(history.logs[0])
    history.submit(queue="q1")
    history.send(f"queue:{T}:q1", qc.DispatchTasks())
    write(postgres_dsn, 0, history.logs[0][done:], done)
    model = ReadModel(postgres_dsn, max_size=1, renewed=False)
    await model.start()
    blue = PoolNow(pool="blue", registered=3, healthy=2, slots=8, busy=1)
    green = PoolNow(pool="green", registered=1, healthy=0, slots=0, busy=0)
    assert await model.pools(history.now) == [blue, green]
    later = await model.pools(history.now + 3_600_001)
    assert later == [PoolNow(pool="blue", registered=2, healthy=2, slots=8, busy=1)]
    await the_gauges_say_it(model)


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def the_gauges_say_it(model: ReadModel) -> None:
    """And no more once Postgres does not answer."""
    metrics = Metrics("projector", instance_id="p", strict=True)
    lag_seconds = 40.0
    gauges = ReadModelGauges(model, metrics, lambda: lag_seconds)
    await gauges.look()
    assert shown(metrics, "jobledger_overdue_jobs") == 0, "what came due since the rows were written is not known"
    lag_seconds = 0.0
    await gauges.look()
    assert shown(metrics, "jobledger_workers_registered", pool="blue") == 3
    assert shown(metrics, "jobledger_workers_healthy", pool="blue") == 2
    assert shown(metrics, "worker_utilization", pool="blue") == 1 / 8
    assert shown(metrics, "jobledger_workers_healthy", pool="green") == 0
    assert shown(metrics, "worker_utilization", pool="green") is None, "nobody knows how busy no worker is"
    assert shown(metrics, "jobledger_overdue_jobs") == 1
    used, limit = (
        shown(metrics, "jobledger_database_connections"),
        shown(metrics, "jobledger_database_connections_limit"),
    )
    assert used is not None
    assert limit is not None
    assert 1 <= used < limit
    more = [await psycopg.AsyncConnection.connect(model._pool.conninfo) for _ in range(3)]
    await gauges.look()
    assert (shown(metrics, "jobledger_database_connections") or 0) >= used + 3
    for connection in more:
        await connection.close()
    await model.stop()
    await gauges.look()
    families = [f for f in metrics.registry.collect() if not f.name.startswith(("process_", "jobledger_build"))]
    assert {sample.name for family in families if family.type == "gauge" for sample in family.samples} == set()


async def test_waiting_for_a_position(model: ReadModel, history: Any, postgres_dsn: str) -> None:
    """At once when it is there, soon after it comes, False at the end of the time; many wait with one poller."""
    assert await model.wait_for(history.vector, 1)
    partition, seq = next(iter(history.vector.items()))
    begun = time.monotonic()
    assert not await model.wait_for({partition: seq + 1}, 0.2)
    assert time.monotonic() - begun < 1
    waiting = [asyncio.create_task(model.wait_for({partition: seq + 1}, 5)) for _ in range(100)]
    await asyncio.sleep(0.1)
    history.submit()
    while len(history.logs[partition]) == seq:
        history.submit()
    write(postgres_dsn, partition, history.logs[partition][seq:], seq)
    written = time.monotonic()
    assert all(await asyncio.gather(*waiting))
    assert time.monotonic() - written < 0.5


async def test_a_snapshot_is_one_instant(model: ReadModel, history: Any, postgres_dsn: str) -> None:
    """What is written while it is open is not seen in it, neither in rows nor in its vector."""
    async with model.snapshot() as view:
        before = history.vector
        while len(history.logs[0]) == before[0]:
            job_id = history.submit()
        write(postgres_dsn, 0, history.logs[0][before[0] :], before[0])
        assert view.vector == before
        assert await view.position() == before
        assert await view.job(T, job_id) is None
    assert (await model.position())[0] > before[0]


async def test_a_slow_query_is_told_by_its_statement_alone(
    model: ReadModel, history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for is the user's: no value of it stands in the line."""
    monkeypatch.setattr(read_model, "SLOW_QUERY_SECONDS", 0.0)
    with capture_logs() as lines:
        await model.job(T, "hunter2-planted")
    slow = [line for line in lines if line["event"] == "slow_query"]
    assert slow and all("FROM" in line["query"] and line["duration_ms"] >= 0 for line in slow)
    assert "hunter2-planted" not in str(slow)


async def test_without_postgres_every_query_says_so() -> None:
    """A typed error within seconds, and start and stop work."""
    model = ReadModel("postgresql://127.0.0.1:9/none")
    await model.start()
    with pytest.raises(ReadModelUnavailableError):
        await model.ping()
    with pytest.raises(ReadModelUnavailableError):
        await model.wait_for({0: 1}, 5)
    await model.stop()


async def test_without_tables_it_says_what_to_do(postgres_dsn: str) -> None:
    """A fresh database names the projector."""
    model = ReadModel(postgres_dsn)
    await model.start()
    with pytest.raises(ReadModelUnavailableError, match="start a projector"):
        await model.queues(T)
    await model.stop()
