"""The counters of an owner and the rows of a projector: of the same events they make the same numbers."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from memory_owner import NOW, WORKER, Decider, command, credits, job, submit
from structlog.testing import capture_logs

from jobledger.domain.identity import queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.events import JobDeadLettered
from jobledger.domain.quantiles import quantile
from jobledger.domain.queue.events import TaskAssigned
from jobledger.domain.values import Opaque, RetryPolicy
from jobledger.processors.observer import TelemetryObserver
from jobledger.projections.memory import MemoryTables
from jobledger.projections.signals import COMPLETED, DUE, ENDED, LATENCY, LATENCY_BOUNDS_SECONDS
from jobledger.projections.time_spans import HOUR, MINUTE
from jobledger.telemetry.metrics import Metrics

QUEUE = queue_stream("default", "mail")
TASK: dict[str, Any] = {"task": "main", "worker": "w1", "incarnation": "i1"}


class DecidedAt:
    """A clock that shows when the plan was decided: a commit that takes no time."""

    def __init__(self) -> None:
        self.now = NOW

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


class Both:
    """A machine whose batches an observer counts and a projector folds."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.clock, self.decider, self.tables = DecidedAt(), Decider(), MemoryTables()
        self.metrics = Metrics("scheduler", instance_id="t", strict=True)
        self.observer = TelemetryObserver(self.metrics, self.clock, "t")
        self.jobs: list[str] = []
        self.held: list[TaskAssigned] = []
        self.dead: list[str] = []
        self.sent = 0

    def send(self, stream: str, body: Any, *by: Any) -> None:
        self.sent += 1
        self.decider.feed(command(stream, body, f"c{self.sent}", *by))

    def settle(self) -> None:
        before = len(self.decider.batches)
        self.decider.settle(self.clock.now)
        for plan in self.decider.batches[before:]:
            self.observer.committed(0, plan, 0.001)
            self.tables.fold_values(0, [event.value for event in plan.events])
            for record in plan.records:
                if isinstance(record.data, TaskAssigned):
                    self.held.append(record.data)
                elif isinstance(record.data, JobDeadLettered):
                    self.dead.append(record.originator_id)

    def live(self, steps: int, worker_from: int) -> None:
        """Everything that counts, at random; a worker comes with a step."""
        rnd = self.rnd
        for step in range(steps):
            for _ in range(rnd.randint(0, 4)):
                self._submit()
            if self.jobs and rnd.random() < 0.3:
                self.send(rnd.choice(self.jobs[-8:]), jc.CancelJob())
            if self.dead and rnd.random() < 0.5:
                self.send(self.dead.pop(), jc.RedriveJob())
            if step == worker_from:
                self.decider.feed(credits(QUEUE, 6))
            rnd.shuffle(self.held)
            for _ in range(rnd.randint(0, len(self.held))):
                self._report(self.held.pop())
            self.settle()
            self.clock.now += rnd.choice([3, 3, 40, 40, 900, 900, 20_000, 70_000, 310_000])

    def _submit(self) -> None:
        rnd, stream = self.rnd, job(f"j{len(self.jobs)}")
        options: dict[str, Any] = {
            "due_at_ms": rnd.choice([None, self.clock.now + rnd.randint(1, 90_000)]),
            "retry": RetryPolicy(max_attempts=rnd.randint(1, 2)),
            "expected_duration_seconds": rnd.choice([None, None, 10.0, 900.0]),
        }
        self.decider.feed(submit(stream, queue="mail", **options))
        self.jobs.append(stream)

    def _report(self, task: TaskAssigned) -> None:
        now = self.clock.now
        said: dict[str, Any] = {**TASK, "assignment": task.assignment, "assigned_at_ms": task.assigned_at_ms}
        said |= {"started_at_ms": now, "ended_at_ms": now}
        how = self.rnd.choice(["well", "well", "FAILED", "TIMEOUT", "cancelled"])
        if how == "well":
            self.send(task.job, jc.ReportSucceeded(**said), WORKER)
        elif how == "cancelled":
            self.send(task.job, jc.ReportCancelled(**TASK, assignment=task.assignment, ended_at_ms=now), WORKER)
        else:
            failure = {"kind": jc.FailureKind(how), "error_type": "E", "error": Opaque("{}")}
            self.send(task.job, jc.ReportFailed(**said, **failure), WORKER)

    def counted(self, names: dict[Any, str], metric: str, label: str) -> dict[str, float]:
        """What the observer has, by the columns of the projector."""
        get = self.metrics.registry.get_sample_value
        return {column: get(metric, {label: outcome.value}) or 0.0 for outcome, column in names.items()}

    def projected(self, seconds: int) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, span, _), row in self.tables.rows["job_signals"].items():
            if span == seconds:
                found.update({name: count for name, count in row.items() if name not in _KEY})
        return found

    def buckets(self) -> list[int]:
        """The histogram's, each alone."""
        get = self.metrics.registry.get_sample_value
        name = "scheduling_latency_seconds_bucket"
        upto = [int(get(name, {"le": f"{bound}"}) or 0) for bound in LATENCY_BOUNDS_SECONDS]
        upto.append(int(get(name, {"le": "+Inf"}) or 0))
        return [count - before for before, count in zip([0, *upto], upto, strict=False)]


_KEY = ("partition", "span_seconds", "start_ms")


def test_an_owners_counters_and_a_projectors_rows_agree() -> None:
    """Each number of Prometheus is one of the API, at every seed, and no kind of outcome is missing in all of them."""
    seen: Counter[str] = Counter()
    for seed in range(4):
        both = Both(seed)
        with capture_logs():
            both.live(50, worker_from=seed % 2 * 15)
        rows = both.projected(MINUTE)
        assert rows == both.projected(HOUR)
        assert both.counted(DUE, "jobledger_jobs_due_total", "outcome") == {name: rows[name] for name in DUE.values()}
        completed = both.counted(COMPLETED, "jobledger_jobs_completed_within_total", "outcome")
        assert completed == {name: rows[name] for name in COMPLETED.values()}
        ended = both.counted(ENDED, "executions_completed_total", "status")
        assert ended == {name: rows[name] for name in ENDED.values()}
        latency = [rows[name] for name in LATENCY]
        assert both.buckets() == latency
        assert quantile(0.99, LATENCY_BOUNDS_SECONDS, both.buckets()) == quantile(0.99, LATENCY_BOUNDS_SECONDS, latency)
        seen.update({name: count for name, count in rows.items() if count})
    assert {*DUE.values(), *COMPLETED.values()} <= set(seen)
    assert {*ENDED.values()} - {"ended_lost"} <= set(seen), "no worker is lost here"
