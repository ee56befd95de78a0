"""Counts events for the service levels and golden signals, in spans of time. Pure: times are those of the events.

A batch is added up here, and written once: each minute that it touches, and the hour around it. Minutes are kept for a
day and hours for 31, counted back from the newest span of their partition, so that a rebuild keeps the same ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from jobledger.domain import service_levels
from jobledger.domain.job.events import TaskCancelled
from jobledger.domain.job.state import RUN
from jobledger.domain.queue.events import TaskAssigned
from jobledger.domain.service_levels import Completion, Due, EndedAs, JobEnd
from jobledger.projections.columns import Change, Key
from jobledger.projections.tables import JOB_SIGNALS
from jobledger.projections.time_spans import KEPT_SECONDS, MINUTE, span_start_ms
from jobledger.telemetry.catalogue import METRICS

DUE = {outcome: f"due_{outcome}" for outcome in Due}
COMPLETED = {outcome: f"completed_{outcome}" for outcome in Completion}
ENDED = {status: f"ended_{status.lower()}" for status in EndedAs}
#: The same upper bounds as the histogram has that Prometheus reads, and a column for each and for what is beyond.
LATENCY_BOUNDS_SECONDS = METRICS["scheduling_latency_seconds"].buckets
LATENCY = tuple(column for column in JOB_SIGNALS.counters if column.startswith("latency_"))
assert len(LATENCY) == len(LATENCY_BOUNDS_SECONDS) + 1, "a bucket without its column"


class JobFacts(NamedTuple):
    """What a job's row has to say before its events count: a `DueJob`."""

    due_at_ms: int
    expected_duration_seconds: float | None
    run: int = RUN


class _Waiting(NamedTuple):
    """An event of a job whose row is not in the batch. `run`: None if the row tells it."""

    minute: Change
    key: Key
    event: JobEnd | TaskCancelled
    run: int | None


class SignalChanges:
    """What a batch adds, by partition and minute."""

    __slots__ = ("_minutes", "_waiting")

    def __init__(self) -> None:
        self._minutes: dict[tuple[int, int], Change] = {}
        self._waiting: list[_Waiting] = []

    def assigned(self, partition: int, at_ms: int, event: TaskAssigned) -> None:
        """Count a hand-out."""
        outcome = service_levels.assigned(event)
        if outcome is None:
            return
        minute = self._minute(partition, at_ms)
        _count(minute, DUE[outcome])
        seconds = max(0, event.assigned_at_ms - event.due_at_ms) / 1000
        _count(minute, LATENCY[bisect_left(LATENCY_BOUNDS_SECONDS, seconds)])

    def of_job(self, partition: int, at_ms: int, key: Key, job: Change, event: JobEnd | TaskCancelled) -> None:
        """Count an event of a job; `job` is what the batch has changed of its row up to here."""
        minute, run = self._minute(partition, at_ms), job.get("run")
        if "due_at_ms" in job:
            _count_job(minute, event, JobFacts(job["due_at_ms"], job["expected_duration_seconds"], run or RUN))
        else:
            self._waiting.append(_Waiting(minute, key, event, run))

    def settle(self, look_up: Callable[[Iterable[Key]], Mapping[Key, JobFacts]]) -> None:
        """Count what waits for rows that were there before the batch.

        A job without a row is passed over here: changing the row, which comes next, is refused with the reason.
        """
        if not self._waiting:
            return
        found = look_up({waiting.key for waiting in self._waiting})
        for minute, key, event, run in self._waiting:
            facts = found.get(key)
            if facts is not None:
                _count_job(minute, event, facts if run is None else facts._replace(run=run))
        self._waiting.clear()

    def spans(self) -> dict[Key, Change]:
        """What is added to which rows."""
        assert not self._waiting, "settle comes first"
        found: dict[Key, Change] = {}
        counted = {minute: counts for minute, counts in self._minutes.items() if counts}
        for (partition, start_ms), counts in counted.items():
            for seconds in KEPT_SECONDS:
                row = found.setdefault((partition, seconds, span_start_ms(start_ms, seconds)), {})
                for column, count in counts.items():
                    row[column] = row.get(column, 0) + count
        return found

    def _minute(self, partition: int, at_ms: int) -> Change:
        key = partition, span_start_ms(at_ms, MINUTE)
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = {}
        return minute


def oldest_kept(spans: Iterable[Key]) -> dict[tuple[int, int], int]:
    """From which start on the spans of a partition and length are kept, once these are written."""
    newest: dict[tuple[int, int], int] = {}
    for partition, seconds, start_ms in spans:
        newest[partition, seconds] = max(start_ms, newest.get((partition, seconds), 0))
    return {of: start_ms - KEPT_SECONDS[of[1]] * 1000 for of, start_ms in newest.items()}


def _count(counts: Change, column: str) -> None:
    counts[column] = counts.get(column, 0) + 1


def _count_job(minute: Change, event: JobEnd | TaskCancelled, job: JobFacts) -> None:
    if isinstance(event, TaskCancelled):
        outcome = service_levels.withdrawn(event, job.due_at_ms)
        if outcome is not None:
            _count(minute, DUE[outcome])
        return
    _count(minute, ENDED[service_levels.ended_as(event)])
    _count(minute, COMPLETED[service_levels.completion(event, job)])
