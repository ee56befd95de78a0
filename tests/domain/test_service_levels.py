"""What counts for the service level objectives, and what the budgets come to."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import Any, NamedTuple

import pytest

from jobledger.domain import service_levels as sl
from jobledger.domain.job import events as je
from jobledger.domain.quantiles import quantile
from jobledger.domain.queue.events import TaskAssigned
from jobledger.domain.service_levels import Completion, Due, EndedAs

DUE = 1_800_000_000_000
TASK: dict[str, Any] = {"task": "main", "execution_id": "x", "attempt": 1}


class FakeJob(NamedTuple):
    due_at_ms: int
    expected_duration_seconds: float | None = None
    run: int = 1


def assigned(after_ms: int, assignment: int = 1) -> TaskAssigned:
    return TaskAssigned(
        job="job:default:1",
        task="main",
        assignment=assignment,
        execution_id="x",
        attempt=1,
        worker="w",
        incarnation="i",
        assigned_at_ms=DUE + after_ms,
        ready_at_ms=DUE,
        due_at_ms=DUE,
        priority=3,
    )


def cancelled_task(after_ms: int, worker: str = "", assignment: int = 1) -> je.TaskCancelled:
    return je.TaskCancelled(**TASK, assignment=assignment, worker=worker, ended_at_ms=DUE + after_ms)


def dead(cause: je.DeadLetterCause, after_ms: int = 0) -> je.JobDeadLettered:
    return je.JobDeadLettered(ended_at_ms=DUE + after_ms, cause=cause, attempts=3)


@pytest.mark.parametrize(("after_ms", "expected"), [(0, Due.ON_TIME), (60_000, Due.ON_TIME), (60_001, Due.LATE)])
def test_a_job_is_on_time_up_to_a_minute_after_it_was_due(after_ms: int, expected: Due) -> None:
    assert sl.assigned(assigned(after_ms)) is expected


def test_a_job_counts_as_due_once() -> None:
    """Hand-outs again, after a loss, for a retry or a further run, say nothing of when it was first handed out."""
    assert sl.assigned(assigned(10**9, assignment=2)) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (cancelled_task(60_000), Due.EXCLUDED),
        (cancelled_task(60_001), Due.LATE),
        (cancelled_task(60_001, worker="w"), None),
        (cancelled_task(60_001, assignment=2), None),
    ],
)
def test_a_job_that_is_cancelled_before_a_worker_has_it_is_late_or_left_out(
    event: je.TaskCancelled, expected: Due | None
) -> None:
    """One that a worker has, or had, was counted when it was handed out."""
    assert sl.withdrawn(event, DUE) is expected


@pytest.mark.parametrize("cause", je.DeadLetterCause)
def test_every_dead_letter_is_an_error(cause: je.DeadLetterCause) -> None:
    """FAILED and TIMEOUT by their names; a job that never started, or took its worker with it, was LOST."""
    status = sl.ended_as(dead(cause))
    assert status in sl.ERRORS
    assert status == (cause if cause in ("FAILED", "TIMEOUT") else "LOST")


def test_success_and_cancel_are_no_errors() -> None:
    assert sl.ended_as(je.JobSucceeded(ended_at_ms=DUE)) is EndedAs.SUCCESS
    assert sl.ended_as(je.JobCancelled(ended_at_ms=DUE)) is EndedAs.CANCELLED
    assert {EndedAs.SUCCESS, EndedAs.CANCELLED} == set(EndedAs) - sl.ERRORS


@pytest.mark.parametrize(
    ("event", "run", "expected"),
    [
        (je.JobSucceeded(ended_at_ms=DUE + 300_000), 1, Completion.WITHIN),
        (je.JobSucceeded(ended_at_ms=DUE + 300_001), 1, Completion.OVER),
        (dead(je.DeadLetterCause.FAILED, 300_001), 1, Completion.OVER),
        (dead(je.DeadLetterCause.FAILED, 1), 1, Completion.WITHIN),
        (je.JobSucceeded(ended_at_ms=DUE + 1), 2, Completion.EXCLUDED),
        (je.JobCancelled(ended_at_ms=DUE - 1), 1, Completion.EXCLUDED),
        (je.JobCancelled(ended_at_ms=DUE + 10**9), 1, Completion.EXCLUDED),
    ],
)
def test_an_execution_ends_within_five_minutes_of_its_due_time_or_over_them(
    event: Any, run: int, expected: Completion
) -> None:
    """What somebody cancelled, and what somebody ran again, has no due time to be measured by."""
    assert sl.completion(event, FakeJob(DUE, None, run)) is expected


@pytest.mark.parametrize(
    ("seconds", "after_ms", "expected"),
    [(300.0, 300_001, Completion.OVER), (300.1, 300_001, Completion.EXCLUDED), (900.0, 1, Completion.EXCLUDED)],
)
def test_a_job_that_is_expected_to_take_longer_is_left_out(seconds: float, after_ms: int, expected: Completion) -> None:
    """However long it then took."""
    assert sl.completion(je.JobSucceeded(ended_at_ms=DUE + after_ms), FakeJob(DUE, seconds)) is expected


def test_the_budget_of_one_bad_in_a_thousand() -> None:
    """Ten thousand may have ten bad ones: five leave half, ten nothing, twenty have spent it twice."""
    actual, left, burnt = (
        [of(10_000, bad) for bad in (0, 5, 10, 20)]
        for of in (sl.ERROR_RATE.actual, sl.ERROR_RATE.budget_remaining, sl.ERROR_RATE.burn_rate)
    )
    assert actual == [1.0, 0.9995, 0.999, 0.998]
    assert left == pytest.approx([1.0, 0.5, 0.0, -1.0])
    assert burnt == pytest.approx([0.0, 0.5, 1.0, 2.0])


@pytest.mark.parametrize("objective", sl.OBJECTIVES, ids=lambda one: one.name)
def test_of_nothing_nothing_is_known(objective: sl.Objective) -> None:
    """No traffic is not 100 %."""
    assert objective.actual(0, 0) is objective.burn_rate(0, 0) is objective.budget_remaining(0, 0) is None


def test_the_objectives_are_those_of_the_handbook() -> None:
    assert {one.name: one.target for one in sl.OBJECTIVES} == {
        "availability": 0.9999,
        "scheduling-accuracy": 0.99999,
        "completion": 0.99,
        "error-rate": 0.999,
    }
    assert (sl.ON_TIME_SECONDS, sl.COMPLETION_SECONDS, sl.WINDOW_DAYS) == (60, 300, 30)


# -- quantiles --------------------------------------------------------------------------------------------------------

BOUNDS = (0.5, 1.0, 5.0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0, 0], None),
        ([100, 0, 0, 0], 0.495),
        ([98, 0, 2, 0], 3.0),
        ([99, 0, 1, 0], 0.5),
        ([0, 0, 0, 7], 5.0),
    ],
)
def test_a_quantile_is_what_prometheus_makes_of_the_same_buckets(counts: list[int], expected: float | None) -> None:
    """Worked by hand after the description of histogram_quantile."""
    assert quantile(0.99, BOUNDS, counts) == pytest.approx(expected)


def test_a_quantile_lies_in_the_bucket_of_the_true_one() -> None:
    rnd = random.Random(3)
    for _ in range(200):
        values = sorted(rnd.expovariate(1.0) for _ in range(rnd.randint(1, 300)))
        counts = [0] * 4
        for value in values:
            counts[bisect_left(BOUNDS, value)] += 1
        found = quantile(0.99, BOUNDS, counts)
        true = values[-(-len(values) * 99 // 100) - 1]
        assert found is not None
        assert bisect_left(BOUNDS, found) == min(bisect_left(BOUNDS, true), 2)
