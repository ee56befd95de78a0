"""A log in which the stream of a job that had ended begins again: owners let that happen once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobledger.domain.identity import job_stream
from jobledger.projections.memory import MemoryTables
from jobledger.projections.rebuild import RebuildConfig, rebuild


def _ended(history: Any, count: int) -> list[str]:
    found = [job for job in history.jobs if history.states[job_stream("default", job)].ended_with_stub]
    return found[:count]


def _second_lives(history: Any, jobs: list[str]) -> int:
    """Let them begin again, one of them a third time, with a job of its own behind each; how many events that makes."""
    before = sum(map(len, history.logs.values()))
    for job in [*jobs, jobs[0]]:
        history.begin_again(job)
    made = sum(map(len, history.logs.values())) - before
    for _ in range(8):
        history.submit()
    return made


def test_the_fold_in_memory_leaves_the_first_life_alone(history: Any) -> None:
    """Whether the events come one by one or all at once; rows of other jobs are as if nothing had been."""
    jobs = _ended(history, 3)
    made = _second_lives(history, jobs)
    once = history.expected()
    single = MemoryTables()
    for partition, records in history.logs.items():
        for record in records:
            single.fold_records(partition, [record])
    assert once.rows == single.rows
    assert len(once.rows["set_aside"]) == made
    for job in jobs:
        assert once.rows["jobs"]["default", job]["handler"] != "again"
    assert {row["stream"] for row in once.rows["set_aside"].values()} == {job_stream("default", job) for job in jobs}
    assert len(once.rows["events"]) == sum(map(len, history.logs.values()))


def _told(lines: Sequence[Mapping[str, Any]]) -> set[tuple[int, int]]:
    return {(line["partition"], line["seq"]) for line in lines if line["event"] == "projection_event_set_aside"}


@pytest.mark.scenario(
    "a projector runs",
    emits=(
        "projection_assigned",
        "projection_revoked",
        "migration_applied",
        "jobledger_projected_events_total",
    ),
)
@pytest.mark.scenario("the read models are rebuilt")
@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.parametrize("apart", [True, False], ids=["rows in the tables", "all in one batch"])
async def test_the_projector_and_a_rebuild_set_it_aside_and_go_on(
    start: Any, log: Any, history: Any, tables: Any, until: Any, postgres_dsn: str, apart: bool
) -> None:
    """With an alarm each, and every row as the fold in memory has it; a projector that starts later still tells."""
    first = await start()
    if apart:
        log.write_all(history)
        await until(lambda: tables.vector() == history.vector)
    else:
        await first.stop()
    written = {partition: len(records) if apart else 0 for partition, records in history.logs.items()}
    made = _second_lives(history, _ended(history, 3))
    with capture_logs() as lines:
        for partition, records in history.logs.items():
            log.write(partition, records[written[partition] :])
        projector = first if apart else await start()
        await until(lambda: tables.vector() == history.vector)
        await until(lambda: _told(lines) == set(tables.rows("set_aside")))  # once it is committed
    tables.check(history)
    assert len(tables.rows("set_aside")) == made
    await projector.stop()
    later = await start()
    await until(lambda: later.set_aside == made)
    result = await asyncio.to_thread(rebuild, RebuildConfig(kafka=log.kafka, cell=log.cell, dsn=postgres_dsn))
    assert (result.switched, result.differences) == (True, [])
    tables.check(history)
