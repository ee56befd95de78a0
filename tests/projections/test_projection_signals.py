"""What is counted of events, by minute and hour: from events alone, whole, bounded, and the same however it comes."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jobledger.domain.job import commands as jc
from jobledger.domain.job import events as je
from jobledger.domain.queue import events as qe
from jobledger.projections.changes import Changes
from jobledger.projections.compare import MemoryRows, first_differences, schema_snapshot
from jobledger.projections.event_reader import EventReader
from jobledger.projections.fold import fold
from jobledger.projections.memory import MemoryTables
from jobledger.projections.migrate import migrate
from jobledger.projections.signals import LATENCY, LATENCY_BOUNDS_SECONDS, SignalChanges
from jobledger.projections.time_spans import DAY, HOUR, KEPT_SECONDS, MINUTE
from jobledger.projections.writer import Advance, Writer, connect
from jobledger.schemas.events import EventRecord, MsgspecTranscoder
from jobledger.telemetry.catalogue import METRICS

_encode = MsgspecTranscoder().encode
Sums = Counter[str]


def sums(rows: dict[Any, dict[str, Any]], seconds: int) -> Sums:
    """All spans of a length added up."""
    found: Sums = Counter()
    for (_, span, _), row in rows.items():
        if span == seconds:
            found.update({column: count for column, count in row.items() if column.startswith(_COUNTED) and count})
    return found


_COUNTED = ("due_", "completed_", "ended_", "latency_")
_ENDS = (je.JobSucceeded, je.JobCancelled, je.JobDeadLettered)


def by_hand(records: Iterator[EventRecord]) -> Sums:
    """The same, from the definitions: over the events of each job, with nothing of the product's own counting."""
    found: Sums = Counter()
    due: dict[str, int] = {}
    long: set[str] = set()
    run: dict[str, int] = {}
    for record in records:
        event, job = record.data, record.originator_id
        if isinstance(event, je.JobSubmitted):
            due[job], run[job] = event.due_at_ms, 1
            if (event.expected_duration_seconds or 0) > 300:
                long.add(job)
        elif isinstance(event, je.JobRedriven):
            run[job] += 1
        elif isinstance(event, qe.TaskAssigned) and event.assignment == 1:
            late = event.assigned_at_ms - event.due_at_ms
            found["due_late" if late > 60_000 else "due_on_time"] += 1
            found[LATENCY[bisect_left(LATENCY_BOUNDS_SECONDS, late / 1000)]] += 1
        elif isinstance(event, je.TaskCancelled) and event.assignment == 1 and not event.worker:
            found["due_late" if event.ended_at_ms - due[job] > 60_000 else "due_excluded"] += 1
        elif isinstance(event, _ENDS):
            cause = event.cause if isinstance(event, je.JobDeadLettered) else type(event).__name__
            names = {"JobSucceeded": "success", "JobCancelled": "cancelled", "FAILED": "failed", "TIMEOUT": "timeout"}
            found[f"ended_{names.get(cause, 'lost')}"] += 1
            left_out = cause == "JobCancelled" or run[job] > 1 or job in long
            within = event.ended_at_ms - due[job] <= 300_000
            found["completed_excluded" if left_out else "completed_within" if within else "completed_over"] += 1
    return found


def test_the_columns_are_the_buckets_of_the_histogram() -> None:
    """So that the API and Prometheus make the same quantile of the same hand-outs."""
    assert METRICS["scheduling_latency_seconds"].buckets == LATENCY_BOUNDS_SECONDS
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}

    def seconds(column: str) -> float:
        text = column.removeprefix("latency_")
        number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        return int(number) * units[text.removeprefix(number)]

    assert tuple(map(seconds, LATENCY[:-1])) == pytest.approx(LATENCY_BOUNDS_SECONDS)
    assert LATENCY[-1] == "latency_longer"


@pytest.mark.parametrize("seed", range(1, 6))
def test_what_is_counted_is_what_the_definitions_say(make_history: Any, seed: int) -> None:
    """Of histories with everything in them, in minutes and in hours."""
    history = make_history(seed=seed).live(150)
    rows = history.expected().rows["job_signals"]
    expected = by_hand(record for log in history.logs.values() for record in log if log)
    assert sums(rows, MINUTE) == sums(rows, HOUR) == expected
    assert {"due_on_time", "due_excluded", "completed_excluded", "ended_failed", "ended_cancelled"} <= set(expected)


def test_a_span_holds_what_happened_in_it(make_history: Any) -> None:
    """By the time of the event, whenever it is folded."""
    history = make_history()
    history.register("default")
    for step in range(4):
        history.submit()
        history.dispatch()
        history.work(history.inbox.popleft(), "succeed")
        history.now += 25 * 60_000 + step
    rows = history.expected().rows["job_signals"]
    minutes = sorted({start for _, span, start in rows if span == MINUTE})
    assert [start - minutes[0] for start in minutes] == [0, 25 * 60_000, 50 * 60_000, 75 * 60_000]
    hours = Counter[int]()
    for (_, span, start), row in rows.items():
        if span == HOUR:
            hours[start] += row["ended_success"]
    assert sorted(hours.values()) == [1, 3]


def long_history(make_history: Any) -> Any:
    """Forty days with some jobs each."""
    history = make_history(seed=11)
    history.register("default")
    rnd = random.Random(11)
    for _ in range(120):
        for _ in range(rnd.randint(1, 3)):
            history.submit(due_at_ms=rnd.choice([None, history.now + 100_000]))
        history.tick(200_000)
        history.dispatch()
        while history.inbox:
            history.work(history.inbox.popleft(), rnd.choice(["succeed", "fail"]))
        if rnd.random() < 0.2:
            history.send(f"job:default:{history.jobs[-1]}", jc.CancelJob())
        history.tick(8 * 3600_000)
    return history


def test_no_more_is_kept_than_a_day_of_minutes_and_31_days_of_hours(make_history: Any) -> None:
    """Counted back from the newest of each partition: what is there follows from the events alone."""
    rows = long_history(make_history).expected().rows["job_signals"]
    for partition in range(4):
        for seconds, kept in KEPT_SECONDS.items():
            starts = [start for of, span, start in rows if (of, span) == (partition, seconds)]
            assert max(starts) - min(starts) <= kept * 1000
    assert (max(k[2] for k in rows) - min(k[2] for k in rows)) > 30 * DAY * 1000


def write(
    writer: Writer, partition: int, log: list[EventRecord], start: int, end: int, *, counting: bool = True
) -> None:
    """A part of a log as one batch; not `counting`: as a release writes that does not know of signals."""
    changes = Changes()
    for record in log[start:end]:
        value = _encode(record)
        fold(changes, EventReader().read(value, list), partition, value)
    if not counting:
        changes.signals = SignalChanges()
    writer.write(changes, [Advance(partition, start, end, end, log[end - 1].at_ms)])


@pytest.mark.postgres
@pytest.mark.parametrize("size", [3, 100])
def test_postgres_keeps_the_same_spans_however_the_log_is_cut(
    make_history: Any, postgres_dsn: str, tables: Any, size: int
) -> None:
    """Counts and retention."""
    history = long_history(make_history)
    migrate(postgres_dsn, "jobledger")
    writer = Writer(connect(postgres_dsn, "jobledger"))
    writer.positions(history.logs)
    for partition, log in history.logs.items():
        for start in range(0, len(log), size):
            write(writer, partition, log, start, min(start + size, len(log)))
    writer.close()
    assert tables.rows("job_signals") == history.expected().rows["job_signals"]


@pytest.mark.postgres
def test_what_a_release_before_has_applied_is_known_to_be_missing(
    make_history: Any, postgres_dsn: str, tables: Any
) -> None:
    """Spans up to the end of the gap are not compared; those after it are whole, and are."""
    history = long_history(make_history)
    migrate(postgres_dsn, "jobledger")
    writer = Writer(connect(postgres_dsn, "jobledger"))
    writer.positions(history.logs)
    gaps: dict[int, int] = {}
    for partition, log in history.logs.items():
        third = len(log) // 3
        write(writer, partition, log, 0, third)
        write(writer, partition, log, third, 2 * third, counting=False)
        with psycopg.connect(postgres_dsn, options="-c search_path=jobledger") as connection:
            connection.execute("UPDATE positions SET counted_seq = %s WHERE partition = %s", [third, partition])
        gaps[partition] = log[2 * third - 1].at_ms
        with schema_snapshot(postgres_dsn, "jobledger") as live:
            assert live.counted_since_ms[partition] == gaps[partition], "not counted to its end"
        write(writer, partition, log, 2 * third, len(log))
    writer.close()
    expected = MemoryRows(history.expected())
    with schema_snapshot(postgres_dsn, "jobledger") as live:
        assert live.counted_since_ms == gaps
        assert first_differences(expected, live) == []
    assert tables.rows("job_signals") != history.expected().rows["job_signals"]
    last = max(key for key in tables.rows("job_signals") if key[1] == HOUR)
    tables.run(
        "UPDATE job_signals SET due_late = due_late + 1 WHERE (partition, span_seconds, start_ms) = (%s, %s, %s)", *last
    )
    with schema_snapshot(postgres_dsn, "jobledger") as live:
        (found,) = first_differences(expected, live)
    assert (found.table, found.key) == ("job_signals", last)


def test_a_fold_in_memory_of_one_batch_or_many_counts_the_same(make_history: Any) -> None:
    history = make_history(seed=3).live(60)
    one, many = MemoryTables(), MemoryTables()
    for partition, log in history.logs.items():
        one.fold_records(partition, log)
        for record in log:
            many.fold_records(partition, [record])
    assert one.rows["job_signals"] == many.rows["job_signals"]
    assert one.rows["job_signals"]
