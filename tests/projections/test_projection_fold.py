"""The fold in memory, against the domain's own state; and the same fold written batch by batch to Postgres."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobledger.domain.aggregates import State, kind_of, mutate
from jobledger.domain.events import AnyEvent
from jobledger.domain.identity import job_stream
from jobledger.domain.job.state import Job, JobStatus
from jobledger.projections.changes import Changes
from jobledger.projections.event_reader import EventReader
from jobledger.projections.fold import APPLY, fold
from jobledger.projections.memory import MemoryTables
from jobledger.projections.migrate import migrate
from jobledger.projections.tables import CURRENT, TABLES, WAITING_TASKS
from jobledger.projections.writer import Advance, Writer, connect
from jobledger.schemas.events import MsgspecTranscoder

GOLDEN_LOG = Path(__file__).parents[1] / "golden" / "log-v1.jsonl"


def test_every_event_type_has_a_projection() -> None:
    """Each event class of the domain has its line in the fold's table."""
    assert set(APPLY) == set(typing.get_args(AnyEvent))


#: What owners of these tests never write: the history alone knows most of it.
UNSEEN = {"TenantCreated", "TenantUpdated", "WorkerRemoved", "LevelEnabled", "LevelRaised"}


def test_the_history_of_these_tests_holds_almost_every_type_of_event(history: Any) -> None:
    """Otherwise the comparisons would prove little."""
    seen = {type(record.data) for log in history.logs.values() for record in log}
    assert {cls.__name__ for cls in set(APPLY) - seen} <= UNSEEN


def test_every_column_is_set_by_some_event_and_no_other_is(history: Any) -> None:
    """A column without its line in the fold, or a line that names no column, shows here."""
    changes = Changes()
    for partition, log in history.logs.items():
        for record in log:
            fold(changes, record, partition, b"")
    for part in changes.tables:
        named = {name for change in part.rows.values() for name in change}
        assert named == {name for name in part.table.columns if name not in part.table.key}, part.table.name
    assert all(set(change) == set(WAITING_TASKS.fixed) for change in changes.waiting.values())
    assert {part.table for part in changes.tables} | {WAITING_TASKS} == set(CURRENT)


def test_jobs_in_memory_are_as_the_domain_has_them(history: Any) -> None:
    """Status, version, attempt, assignment and end of each row are those of the aggregate."""
    jobs = history.expected().rows["jobs"]
    for job_id in history.jobs:
        state: Job = history.states[job_stream("default", job_id)]
        row = jobs["default", job_id]
        assert (row["status"], row["version"], row["ended_at_ms"]) == (state.status, state.version, state.ended_at_ms)
        assert (row["attempt"], row["assignment"]) == (state.main.attempt, state.main.assignment)


def test_queues_in_memory_are_as_the_domain_has_them(make_history: Any) -> None:
    """Waiting tasks, their bytes, held tasks and workers' holdings agree with the queue's lanes at any time."""
    history = make_history(seed=5)
    for queue in ("default", "mail"):
        history.register(queue)
    for _ in range(60):
        history._step(["default", "mail"], 10_000)
        rows = history.expected().rows
        for name in ("default", "mail"):
            lanes, row = history.states[f"queue:default:{name}"].lanes, rows["queues"]["default", name]
            assert row["waiting"] == sum(lanes.depth(p) for p in range(1, 6))
            assert row["waiting_bytes"] == lanes.waiting_bytes
            assert row["held"] == sum(map(len, lanes.held.values()))
            held = {i: len(lanes.held_by(i)) for i in history.states[f"queue:default:{name}"].workers}
            assert held == {k[2]: w["held"] for k, w in rows["workers"].items() if k[1] == name}


def test_events_from_before_they_told_the_status_give_the_same_rows() -> None:
    """The recorded log of before, as it is and as it would be written now."""
    lines = [json.loads(line) for line in GOLDEN_LOG.read_text(encoding="utf-8").splitlines()[1:]]
    before, now, states, told = MemoryTables(), MemoryTables(), dict[str, State](), set[str]()
    for line in lines:
        value = line["value"].encode()
        record = EventReader().read(value, list)
        stream = record.originator_id
        state = states[stream] = mutate(states.get(stream), record)
        status = kind_of(stream).status(state)
        assert record.status_after is None and record.status in (None, status)
        told.add(str(record.status))
        before.fold(line["partition"], [(record, value)])
        now.fold(line["partition"], [(msgspec.structs.replace(record, status_after=status), value)])
    assert told == {"None", *JobStatus} - {"DISCARDED"} and before.rows == now.rows


@pytest.mark.postgres
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_rows_do_not_depend_on_how_the_log_is_cut_into_batches(
    make_history: Any, postgres_dsn: str, tables: Any, size: int
) -> None:
    """Batches of one event, of seven, and one of all give the rows of the fold in memory."""
    history = make_history(seed=7).live(40 if size == 1 else 150)
    migrate(postgres_dsn, "jobledger")
    writer = Writer(connect(postgres_dsn, "jobledger"))
    writer.positions(history.logs)
    encode = MsgspecTranscoder().encode
    expected = MemoryTables()
    for partition, log in history.logs.items():
        expected.fold_records(partition, log)
        for start in range(0, len(log), size):
            part = [encode(record) for record in log[start : start + size]]
            changes = Changes()
            for value in part:
                fold(changes, EventReader().read(value, list), partition, value)
            writer.write(changes, [Advance(partition, start, start + len(part), start + len(part), history.now)])
    writer.close()
    for table in TABLES:
        assert tables.rows(table.name) == expected.rows[table.name], table.name
    assert tables.vector() == {p: len(log) for p, log in history.logs.items()}
