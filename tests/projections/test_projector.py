"""The projector against a real broker and a real Postgres."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaError

from jobledger.bootstrap.projector import add_projection
from jobledger.eventlog.group_reader import GroupReader
from jobledger.eventlog.partitions import Taken
from jobledger.projections.changes import Changes
from jobledger.projections.event_batch import ProjectionStoppedError
from jobledger.projections.fold import fold
from jobledger.projections.memory import MemoryTables
from jobledger.projections.projector import Projector
from jobledger.projections.writer import Advance, DeposedError, Writer, connect
from jobledger.schemas.events import MsgspecTranscoder
from jobledger.telemetry.health import Health

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]
encode = MsgspecTranscoder().encode
Start = Callable[..., Awaitable[Projector]]


async def test_the_tables_are_the_fold_of_the_log(
    start: Start, log: Any, history: Any, tables: Any, until: Any
) -> None:
    """After a history of everything each row is as the fold in memory has it, and the positions are its end."""
    log.write_all(history)
    await start()
    await until(lambda: tables.vector() == history.vector)
    tables.check(history)


async def test_a_single_event_is_visible_at_once(start: Start, log: Any, history: Any, tables: Any, until: Any) -> None:
    """On an idle system it takes well under 250 ms from the log to the tables."""
    await start()
    await until(lambda: len(tables.vector()) == 4)
    partition, records = next((p, records) for p, records in history.logs.items() if len(records) > 20)
    log.write(partition, records[:1])
    await until(lambda: tables.vector()[partition] == 1)
    taken = []
    for number in range(1, 20):
        begun = time.monotonic()
        log.write(partition, records[number : number + 1])
        await until(lambda wanted=number + 1: tables.vector()[partition] == wanted, pause=0.002)  # type: ignore[misc]
        taken.append(time.monotonic() - begun)
    assert sorted(taken)[-2] < 0.25


async def test_events_that_come_twice_are_applied_once(
    start: Start, log: Any, history: Any, tables: Any, until: Any
) -> None:
    """A record repeated in the log changes nothing."""
    for partition, records in history.logs.items():
        for at in range(0, len(records), 10):
            log.write(partition, records[max(0, at - 5) : at + 10])
    await start()
    await until(lambda: tables.vector() == history.vector)
    tables.check(history)


@pytest.mark.scenario("a projector can't go on", emits=("projection_gap",))
async def test_a_gap_stops_the_projector(start: Start, log: Any, history: Any, tables: Any, until: Any) -> None:
    """It names the partition and the two numbers, and applies nothing beyond."""
    partition, records = max(history.logs.items(), key=lambda item: len(item[1]))
    log.write(partition, records[:5] + records[6:9])
    projector = await start()
    with pytest.raises(ProjectionStoppedError, match="from seq 5 to 7"):
        await asyncio.wait_for(projector.wait(), 20)
    assert tables.vector().get(partition, 0) in (0, 5)


async def test_a_projector_that_was_put_out_of_its_group_ends(
    start: Start, log: Any, history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the error in which it happened, and by any later one: its client gives no record any more, and says so."""
    projector = await start()
    error = KafkaError(KafkaError._FATAL, "Static consumer fenced by other consumer with same group.instance.id")
    assert not error.fatal(), "the flag alone would do"
    monkeypatch.setattr(GroupReader, "take", lambda *arguments: Taken([], {}, [(0, error)]))
    with pytest.raises(ProjectionStoppedError, match="Start it again"):
        await asyncio.wait_for(projector.wait(), 20)


@pytest.mark.scenario("a projector can't go on", emits=("projection_unknown_event",))
async def test_an_unknown_type_stops_the_projector(
    start: Start, log: Any, history: Any, tables: Any, until: Any
) -> None:
    """A type of a later release is never skipped."""
    partition, records = max(history.logs.items(), key=lambda item: len(item[1]))
    log.write(partition, records[:3])
    value = encode(records[3]).replace(b'"data":{"type":"', b'"data":{"type":"x')
    log.write_raw(partition, value, [("ce_type", b"io.jobledger.xjob.made.v1")])
    log.flush()
    projector = await start()
    with pytest.raises(ProjectionStoppedError, match=r"'io.jobledger.xjob.made.v1' is not known to this release"):
        await asyncio.wait_for(projector.wait(), 20)


async def test_what_is_not_an_event_is_left_aside(
    start: Start, log: Any, history: Any, tables: Any, until: Any
) -> None:
    """Foreign bytes on the topic stop nobody: the numbers of the events show that none is missing."""
    for partition, records in history.logs.items():
        log.write_raw(partition, b"\xff\x00not json")
        log.write(partition, records[: len(records) // 2])
        log.write_raw(partition, b'{"hello":1}')
        log.write(partition, records[len(records) // 2 :])
    await start()
    await until(lambda: tables.vector() == history.vector)
    tables.check(history)


async def test_a_lost_connection_loses_and_doubles_nothing(
    start: Start, log: Any, history: Any, tables: Any, until: Any, postgres_dsn: str
) -> None:
    """The projector's connections are ended again and again while it works; the rows come out right."""
    await start()
    longest = max(len(records) for records in history.logs.values())
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        for at in range(0, longest, 40):
            for partition, records in history.logs.items():
                log.write(partition, records[at : at + 40])
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'jobledger-projector' AND datname = current_database()"
            )
            await asyncio.sleep(0.02)
    await until(lambda: tables.vector() == history.vector)
    tables.check(history)


async def test_projectors_share_the_partitions(start: Start, log: Any, history: Any, tables: Any, until: Any) -> None:
    """A second one takes over half, a third some; when they leave the first has all again. Nothing is lost."""
    steps = iter(range(0, 10_000, 60))

    def write_some() -> None:
        at = next(steps)
        for partition, records in history.logs.items():
            log.write(partition, records[at : at + 60])

    first = await start("projector-1")
    await until(lambda: len(first.positions) == 4)
    write_some()
    second = await start("projector-2")
    await until(lambda: len(first.positions) == len(second.positions) == 2)
    write_some()
    await second.stop()
    write_some()
    await until(lambda: len(first.positions) == 4, seconds=5)  # well before the session of 10 s would have ended
    while tables.vector() != history.vector:
        write_some()
        await asyncio.sleep(0.05)
    tables.check(history)


@pytest.mark.scenario("a projector can't go on", emits=("projection_deposed",))
async def test_a_deposed_projector_writes_nothing_and_goes_on(
    start: Start, log: Any, history: Any, tables: Any, until: Any, postgres_dsn: str
) -> None:
    """When another has applied events meanwhile, its batch is dropped and it goes on from where the tables are."""
    projector = await start()
    partition, records = max(history.logs.items(), key=lambda item: len(item[1]))
    log.write(partition, records[:10])
    await until(lambda: tables.vector().get(partition) == 10)
    changes = Changes()
    for record in records[10:20]:
        fold(changes, record, partition, encode(record))
    other = Writer(connect(postgres_dsn, "jobledger"))
    other.write(changes, [Advance(partition, 10, 20, 20, 0)])
    with pytest.raises(DeposedError):
        other.write(Changes(), [Advance(partition, 10, 11, 11, 0)])
    other.close()
    log.write(partition, records[10:])
    await until(lambda: tables.vector().get(partition) == len(records))
    assert projector.running
    assert [key[1] for key in sorted(tables.rows("events"))] == list(range(1, len(records) + 1))
    expected = MemoryTables()
    expected.fold_records(partition, records)
    assert tables.rows("jobs") == expected.rows["jobs"]


async def test_a_projector_can_be_stopped_while_postgres_is_away(start: Start, log: Any) -> None:
    """It does not hang in its waiting for the connection."""
    projector = await start(dsn="postgresql://postgres@127.0.0.1:9/nothing")
    await asyncio.sleep(0.5)
    assert projector.running
    await asyncio.wait_for(projector.stop(), 8)
    await asyncio.wait_for(projector.wait(), 1)


@pytest.mark.scenario("a query is slow")
@pytest.mark.scenario(
    "a projector runs",
    emits=(
        "jobledger_projection_lag_events",
        "jobledger_projection_lag_seconds",
        "jobledger_projection_position",
        "jobledger_projection_set_aside_events",
    ),
)
async def test_a_projector_that_falls_behind_is_not_ready(
    start: Start, log: Any, history: Any, until: Any, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others hold its tables: it is DEGRADED, then UNHEALTHY, and well again when it has caught up."""
    monkeypatch.setattr("jobledger.bootstrap.projector.SILENT_SECONDS", 2.0)
    monkeypatch.setattr("jobledger.bootstrap.projector.LATE_SECONDS", 2.1)
    monkeypatch.setattr("jobledger.bootstrap.projector.TOO_LATE_SECONDS", 3.5)
    projector, health = await start(), Health("1")
    add_projection(health, projector)
    health.set_ready(True)
    await until(lambda: len(projector.lags) == 4)
    assert (await health.ready())[0] == 200

    async def becomes(status: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (found := (await health.status())[1]["components"]["projection"])["status"] != status:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)
        return dict(found)

    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("LOCK TABLE jobledger.positions IN ACCESS EXCLUSIVE MODE")
        log.write_all(history)
        assert (await becomes("DEGRADED"))["lag_seconds"] >= 2
        assert (await health.ready())[0] == 200
        assert "behind the log" in (await becomes("UNHEALTHY"))["error"]
        assert (await health.ready())[0] == 503 and health.live()[0] == 200
    await becomes("HEALTHY")
    assert (await health.ready())[0] == 200
