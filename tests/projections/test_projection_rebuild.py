"""Rebuild beside the live schema, and the comparison."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from jobledger.projections.compare import MemoryRows, first_differences, schema_snapshot
from jobledger.projections.read_model import ReadModel
from jobledger.projections.rebuild import RebuildConfig, RebuildError, rebuild

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


def schemas(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'jobledger%'").fetchall()
    return {row[0] for row in found}


async def test_a_rebuild_under_load_finds_no_difference_and_nobody_notices(
    start: Any, log: Any, history: Any, tables: Any, until: Any, postgres_dsn: str
) -> None:
    """A projector and readers go on through the switch; every row is right, and the old schema is gone."""
    projector = await start()
    model = ReadModel(postgres_dsn, max_size=2)
    await model.start()
    longest = max(len(records) for records in history.logs.values())
    for partition, records in history.logs.items():
        log.write(partition, records[: longest // 4])
    await until(lambda: sum(tables.vector().values()) > 0)
    config = RebuildConfig(kafka=log.kafka, cell=log.cell, dsn=postgres_dsn)
    steps: list[str] = []
    rebuilding = asyncio.create_task(asyncio.to_thread(rebuild, config, lambda p: steps.append(p.step)))
    for at in range(longest // 4, longest, 25):
        for partition, records in history.logs.items():
            log.write(partition, records[at : at + 25])
        async with model.snapshot() as view:
            events = 0
            for partition, seq in view.vector.items():
                page = await view.events(partition, after=max(0, seq - 1), first=10)
                assert [row.seq for row in page.items] == ([seq] if seq else [])
                events += seq
        await asyncio.sleep(0.02)
    result = await rebuilding
    assert result.switched
    assert result.differences == []
    assert {"fold", "compare", "switch"} == set(steps)
    await until(lambda: tables.vector() == history.vector)
    assert projector.running
    tables.check(history)
    assert await model.position() == history.vector
    assert schemas(postgres_dsn) == {"jobledger"}
    await model.stop()


async def test_a_damaged_row_is_found_and_mended_when_wanted(
    start: Any, log: Any, history: Any, tables: Any, until: Any, postgres_dsn: str
) -> None:
    """Differences keep the live schema; accepted, the rebuilt one takes its place and the old one may be kept."""
    log.write_all(history)
    await start()
    await until(lambda: tables.vector() == history.vector)
    job = history.jobs[0]
    tables.run("UPDATE jobs SET priority = 77 WHERE id = %s", job)
    tables.run("DELETE FROM attempts WHERE job_id = %s", history.jobs[1])
    tables.run("INSERT INTO api_requests VALUES ('a/1', 60, 60000, 9, 1)")
    config = RebuildConfig(kafka=log.kafka, cell=log.cell, dsn=postgres_dsn)
    result = await asyncio.to_thread(rebuild, config)
    assert not result.switched
    assert schemas(postgres_dsn) == {"jobledger"}
    assert ("jobs", ("default", job), {"priority": 77}) in [(d.table, d.key, d.found) for d in result.differences]
    assert all(d.found is None for d in result.differences if d.table == "attempts")
    forced = RebuildConfig(kafka=log.kafka, cell=log.cell, dsn=postgres_dsn, keep_old=True, accept_differences=True)
    result = await asyncio.to_thread(rebuild, forced)
    assert result.switched
    assert schemas(postgres_dsn) == {"jobledger", result.old_schema}
    tables.check(history)
    with psycopg.connect(postgres_dsn) as connection:
        found = connection.execute("SELECT total, failed FROM jobledger.api_requests").fetchall()
    assert found == [(9, 1)], "what comes of no event is taken along"


async def test_a_fold_in_memory_is_compared_row_for_row(
    start: Any, log: Any, history: Any, tables: Any, until: Any, postgres_dsn: str
) -> None:
    """Equal tables have no difference; a change, a surplus and a missing row are each named."""
    log.write_all(history)
    await start()
    await until(lambda: tables.vector() == history.vector)
    expected = history.expected()
    with schema_snapshot(postgres_dsn, "jobledger") as live:
        assert live.vector == expected.vector
        assert first_differences(MemoryRows(expected), live) == []
    job, other = history.jobs[:2]
    tables.run("UPDATE jobs SET worker = 'nobody' WHERE id = %s", job)
    tables.run("UPDATE jobs SET id = 'zzz' WHERE id = %s", other)
    with schema_snapshot(postgres_dsn, "jobledger") as live:
        found = {str(difference) for difference in first_differences(MemoryRows(expected), live)}
    assert len(found) == 3
    assert f"jobs default/{other}: is missing" in found
    assert "jobs default/zzz: should not be there" in found


async def test_rebuild_without_live_tables_is_refused(log: Any, postgres_dsn: str) -> None:
    """The sentence says what to do."""
    with pytest.raises(RebuildError, match="no schema 'jobledger' to rebuild; start a projector"):
        rebuild(RebuildConfig(kafka=log.kafka, cell=log.cell, dsn=postgres_dsn))
