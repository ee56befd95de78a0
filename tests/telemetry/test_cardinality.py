"""How many series a process has after 10,000 jobs of 500 types and 50 tenants: no more than the table states."""

from __future__ import annotations

import io
from collections.abc import Iterator
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from graphql import ObjectTypeDefinitionNode, parse

from jobledger.domain.job import events as je
from jobledger.domain.job.state import Job, JobStatus
from jobledger.domain.queue import events as qe
from jobledger.domain.queue.commands import ReleaseOutcome
from jobledger.domain.queue.state import Lanes
from jobledger.domain.values import SYSTEM, Opaque, RetryPolicy
from jobledger.graphql.access import Access, AccessError
from jobledger.processors.clock import SystemClock
from jobledger.processors.cluster_view import Seen
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.plan import Plan
from jobledger.processors.gauges import Gauges
from jobledger.processors.log_gauges import LogGauges
from jobledger.processors.observer import TelemetryObserver
from jobledger.projections.gauges import ReadModelGauges
from jobledger.projections.pages import Connections, Overdue, PoolNow
from jobledger.schemas.error_codes import CODES
from jobledger.schemas.events import EventRecord
from jobledger.settings import Settings
from jobledger.telemetry.catalogue import METRICS, OTHER, Metric
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics
from jobledger.workers.measures import Measures

SCHEMA = Path(__file__).parents[2] / "schemas" / "schema.graphql"
JOBS, TYPES, TENANTS, QUEUES, PARTITIONS = 10_000, 500, 50, 1_200, 64
GROUP = "c-scheduler"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    configure_logging("scheduler", "t", to_stream=io.BytesIO(), level="ERROR")
    yield
    structlog.reset_defaults()


def check(metrics: Metrics) -> dict[str, int]:
    """Compare what is exported with the table; how many label combinations each metric has."""
    counted: dict[str, int] = {}
    for family in metrics.registry.collect():
        metric = METRICS.get(family.name) or METRICS.get(f"{family.name}_total")
        if metric is None:
            assert family.name.startswith("process_")
            continue
        found = {tuple(v for name, v in sorted(one.labels.items()) if name != "le") for one in family.samples}
        beyond = {values for values in found if OTHER in values}
        assert len(found - beyond) <= metric.series_bound, metric.name
        assert len(beyond) <= beyond_bound(metric), metric.name
        counted[metric.name] = len(found)
    return counted


def beyond_bound(metric: Metric) -> int:
    """`_other` has a series for each value of the labels that stay themselves."""
    return prod(label.size if label.values else label.bound for label in metric.labels if kept(label))


def kept(label: Any) -> bool:
    return bool(label.values) or not label.collapses


def record(stream: str, tenant: str, data: Any) -> EventRecord:
    return EventRecord(
        id="0-1",
        originator_id=stream,
        originator_version=1,
        seq=1,
        tenant=tenant,
        at_ms=1,
        command_id="c",
        actor=SYSTEM,
        data=data,
    )


def job_events(number: int) -> tuple[list[EventRecord], Job]:
    """A job's way through its queue: handed out, released, ended; the first of each queue are given up."""
    tenant, queue = f"t{number % TENANTS}", f"q{number % QUEUES}"
    stream, of = f"job:{tenant}:{number}", f"queue:{tenant}:{queue}"
    task: dict[str, Any] = {"job": stream, "task": "main", "assignment": 1}
    held = {"worker": f"w{number % 300}", "incarnation": f"i{number % 300}"}
    attempt = {"execution_id": str(number), "attempt": 1, "assigned_at_ms": 1, "ready_at_ms": 1, "due_at_ms": 1}
    job = Job(
        id=stream,
        version=4,
        submitted_at_ms=1,
        due_at_ms=1,
        status=JobStatus.DEAD_LETTERED,
        handler=f"h{number % TYPES}",
        queue=queue,
        payload=Opaque("{}"),
        priority=3,
        retry=RetryPolicy(),
    )
    dead = je.JobDeadLettered(ended_at_ms=1, cause=je.DeadLetterCause.FAILED, attempts=1)
    ended = dead if number < 2 * QUEUES else je.JobSucceeded(ended_at_ms=1)
    assigned = qe.TaskAssigned(**task, **held, **attempt, priority=1 + number % 5)
    released = qe.TaskReleased(**task, **held, outcome=ReleaseOutcome.ENDED, released_at_ms=1)
    return [record(of, tenant, assigned), record(of, tenant, released), record(stream, tenant, ended)], job


async def test_a_scheduler_s_series_are_bounded() -> None:
    metrics, clock = Metrics("scheduler", instance_id="s"), SystemClock()
    observer = TelemetryObserver(metrics, clock, "s")
    for partition in range(PARTITIONS):
        observer.opened(partition, 0.1, 0)
    for begin in range(0, JOBS, 100):
        plan = Plan(now_ms=1, checkpoint=Checkpoint(cell="c", partitions=PARTITIONS))
        states = {}
        for number in range(begin, begin + 100):
            records, job = job_events(number)
            plan.records += records
            states[job.id] = job
        plan.states = states
        observer.committed(0, plan, 0.01)
    machines: dict[int, Any] = {
        p: SimpleNamespace(streams={"queue": {}}, due_before=lambda ms: [], checkpoint=SimpleNamespace(offset=0))
        for p in range(PARTITIONS)
    }
    for number in range(QUEUES * 5):
        stream = f"queue:t{number % TENANTS}:q{number % QUEUES}"
        machines[number % PARTITIONS].streams["queue"][stream] = SimpleNamespace(lanes=Lanes())
    Gauges(lambda: machines, metrics, clock).look()

    class Cluster:
        async def look(self, partitions: Any) -> Seen:
            ones = dict.fromkeys(partitions, 1)
            return Seen(ones, dict.fromkeys(partitions, True), ones)

        def close(self) -> None:
            pass

    await LogGauges(Cluster(), GROUP, lambda: machines, metrics).look()
    counted = check(metrics)
    assert counted["jobledger_dead_letters_total"] == 1_001, "the thousandth queue and the rest"
    assert counted["queue_consumer_lag_messages"] == 1_001
    assert counted["queue_depth"] > 4_096, "there are more, which go by the partition alone"
    assert counted["scheduler_jobs_dispatched_total"] <= 6
    shown = metrics.registry.get_sample_value("jobledger_dead_letters_total", {"queue_name": OTHER})
    assert shown == 2 * (QUEUES - 1_000), "nothing is lost in it"


def test_a_worker_s_series_are_bounded() -> None:
    metrics = Metrics("worker", instance_id="w", strict=True)
    measures = Measures(metrics, 8)
    for number in range(JOBS):
        status = ("SUCCESS", "FAILED", "TIMEOUT", "CANCELLED")[number % 4]
        measures.completed(status, f"h{number % (TYPES + 7)}", 0.1, None)
    counted = check(metrics)
    assert counted["worker_execution_duration_seconds"] == TYPES + 1
    assert counted["worker_tasks_completed_total"] == 4


async def test_a_projector_s_series_are_bounded() -> None:
    metrics = Metrics("projector", instance_id="p", strict=True)

    class Model:
        async def overdue(self, now_ms: int) -> Overdue:
            return Overdue(count=0, oldest_due_at_ms=None)

        async def pools(self, now_ms: int) -> list[PoolNow]:
            return [PoolNow(pool=f"p{n}", registered=2, healthy=1, slots=4, busy=1) for n in range(150)]

        async def connections(self) -> Connections:
            return Connections(used=1, limit=100)

    await ReadModelGauges(Model(), metrics, lambda: 0.0).look()  # type: ignore[arg-type]
    counted = check(metrics)
    assert counted["worker_utilization"] == counted["jobledger_workers_healthy"] == 101
    assert metrics.registry.get_sample_value("jobledger_workers_registered", {"pool": OTHER}) == 100
    assert metrics.registry.get_sample_value("worker_utilization", {"pool": OTHER}) == 0.25


async def test_an_api_s_series_are_bounded() -> None:
    """By what the schema has, whatever callers send; of tenants by the first hundred."""
    metrics = Metrics("api", instance_id="a", strict=True)
    roots = {"Query", "Mutation", "Subscription"}
    types = [one for one in parse(SCHEMA.read_text()).definitions if isinstance(one, ObjectTypeDefinitionNode)]
    fields = {field.name.value for one in types if one.name.value in roots for field in one.fields}
    statuses = {200, 405, 413, 415, *(coded.http for coded in CODES)}
    for endpoint in [*(f"/graphql:{name}" for name in [*fields, "_multiple", "_invalid"]), "/graphql"]:
        for method in ("POST", "WEBSOCKET"):
            metrics.observe("api_request_duration_seconds", 0.1, method=method, endpoint=endpoint)
            for status in statuses:
                metrics.inc("api_requests_total", method=method, endpoint=endpoint, status_code=str(status))
    access = Access(Settings(api_tenant_limit="1/hour"), metrics)
    for number in range(150):
        await access.count(f"t{number}", "peer")
        with pytest.raises(AccessError):
            await access.count(f"t{number}", "peer")
    counted = check(metrics)
    assert len(fields) > 10
    assert counted["api_requests_total"] == 2 * (len(fields) + 3) * len(statuses)
    assert counted["api_rate_limit_exceeded_total"] == 101
