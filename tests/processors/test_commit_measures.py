"""What is counted of each committed batch: by real decisions, at times that are given."""

from __future__ import annotations

from typing import Any

import pytest
from memory_owner import NOW, WORKER, Decider, command, credits, job, submit

from jobledger.domain.identity import queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.service_levels import COMPLETION_SECONDS, ON_TIME_SECONDS
from jobledger.domain.values import Opaque, RetryPolicy
from jobledger.processors.core.plan import Plan
from jobledger.processors.measures import CommitMeasures
from jobledger.telemetry.metrics import Metrics

QUEUE = queue_stream("default", "mail")
TASK: dict[str, Any] = {"task": "main", "worker": "w1", "incarnation": "i1"}
ONCE = RetryPolicy(max_attempts=1)
ON_TIME_MS, WITHIN_MS = ON_TIME_SECONDS * 1000, COMPLETION_SECONDS * 1000


class Measured:
    """A machine whose batches are measured."""

    def __init__(self) -> None:
        self.metrics = Metrics("scheduler", instance_id="t", strict=True)
        self.measures = CommitMeasures(self.metrics)
        self.decider = Decider()
        self.feed = self.decider.feed

    def settle(self, now: int = NOW) -> None:
        before = len(self.decider.batches)
        self.decider.settle(now)
        for plan in self.decider.batches[before:]:
            self.measures.committed(plan)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def due(self) -> list[float | None]:
        return [self.value("jobledger_jobs_due_total", outcome=name) for name in ("on_time", "late", "excluded")]

    def completed(self) -> list[float | None]:
        name = "jobledger_jobs_completed_within_total"
        return [self.value(name, outcome=outcome) for outcome in ("within", "over", "excluded")]


def report(stream: str, assignment: int, at: int, *, error: str = "", identity: str = "") -> Any:
    times: dict[str, Any] = {"assigned_at_ms": NOW, "started_at_ms": NOW, "ended_at_ms": at}
    body: Any
    if error:
        failure = {"kind": jc.FailureKind.FAILED, "error_type": error, "error": Opaque("{}")}
        body = jc.ReportFailed(**TASK, **times, assignment=assignment, **failure)  # type: ignore[arg-type]
    else:
        body = jc.ReportSucceeded(**TASK, **times, assignment=assignment)
    return command(stream, body, identity or f"report/{stream}/{assignment}", WORKER, reply=False)


def test_a_job_comes_due_once_and_on_time_is_a_minute() -> None:
    """By its first assignment; a second attempt is no job that comes due."""
    one = Measured()
    one.feed(submit(job("a"), queue="mail"))
    one.settle()
    one.feed(credits(QUEUE, 10))
    one.settle(NOW + ON_TIME_MS)
    assert one.due() == [1, 0, 0]
    one.feed(report(job("a"), 1, NOW, error="E"))
    one.settle(NOW + ON_TIME_MS)
    one.settle(NOW + 3_600_000)
    assert one.due() == [1, 0, 0]


def test_a_job_that_waits_longer_is_late_also_when_it_is_cancelled_then_and_excluded_when_that_was_before() -> None:
    one = Measured()
    one.feed(*(submit(job(name), queue="mail") for name in "abcd"))
    one.settle()
    assert one.due() == [0, 0, 0], "nothing is known of them yet"
    one.feed(command(job("c"), jc.CancelJob(), "cancel-c"))
    one.settle(NOW + 1)
    assert one.due() == [0, 0, 1]
    one.feed(command(job("d"), jc.CancelJob(), "cancel-d"))
    one.settle(NOW + ON_TIME_MS + 1)
    one.feed(credits(QUEUE, 10))
    one.settle(NOW + ON_TIME_MS + 1)
    assert one.due() == [0, 3, 1]
    assert one.completed() == [0, 0, 2], "who cancels a job wants no end of it"


def test_a_job_is_within_its_time_by_when_it_was_due_and_a_run_that_was_asked_for_again_is_no_part_of_it() -> None:
    one = Measured()
    later, end = NOW + 60_000, NOW + WITHIN_MS
    one.feed(credits(QUEUE, 10), submit(job("a"), queue="mail"), submit(job("b"), queue="mail"))
    one.feed(submit(job("c"), queue="mail", due_at_ms=later), submit(job("d"), queue="mail", retry=ONCE))
    one.feed(submit(job("e"), queue="mail", expected_duration_seconds=3_600.0))
    one.settle()
    one.settle(later)
    one.feed(report(job("a"), 1, end))
    one.settle(end)
    one.feed(report(job("b"), 1, end + 1), report(job("d"), 1, end + 1, error="E"))
    one.settle(end + 1)
    one.feed(report(job("c"), 1, end + 60_000), report(job("e"), 1, end + 60_000))
    one.settle(end + 60_000)
    assert one.completed() == [2, 2, 1], "e was expected to take longer"
    assert one.value("jobledger_dead_letters_total", queue_name="mail") == 1
    one.feed(command(job("d"), jc.RedriveJob(), "again"))
    one.settle(end + 70_000)
    one.feed(report(job("d"), 2, end + 70_000))
    one.settle(end + 70_000)
    assert one.completed() == [2, 2, 2]
    assert one.due() == [5, 0, 0]


def test_reports_of_an_assignment_that_is_over_are_counted() -> None:
    one = Measured()
    one.feed(credits(QUEUE, 10), submit(job("a"), queue="mail"))
    one.settle()
    one.feed(report(job("a"), 7, NOW), report(job("a"), 1, NOW))
    one.settle()
    assert one.value("jobledger_stale_reports_total") == 1


@pytest.mark.scenario("a timer fires late")
def test_a_timer_is_late_a_second_after_it_was_due() -> None:
    one = Measured()
    one.feed(*(submit(job(name), queue="mail", due_at_ms=NOW + 5_000) for name in "ab"))
    one.feed(submit(job("c"), queue="mail", due_at_ms=NOW + 6_000))
    one.settle()
    one.settle(NOW + 6_000)
    assert one.value("jobledger_timers_late_total") == 0
    one.feed(submit(job("d"), queue="mail", due_at_ms=NOW + 10_000))
    one.settle(NOW + 6_000)
    one.settle(NOW + 11_001)
    assert one.value("jobledger_timers_late_total") == 1


def test_batches_are_counted_with_what_they_decide() -> None:
    one = Measured()
    one.feed(submit(job("a"), queue="mail"), submit(job("b"), queue="mail"))
    plan: Plan = one.decider.turn()
    one.measures.committed(plan)
    assert plan.commands > 2, "what follows on the partition is decided in the same batch"
    assert one.value("jobledger_batch_commands_count") == 1
    assert one.value("jobledger_batch_commands_sum") == plan.commands
