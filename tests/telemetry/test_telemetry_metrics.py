from __future__ import annotations

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from jobledger.telemetry.catalogue import METRICS, Kind, Role, UndeclaredError
from jobledger.telemetry.metrics import Metrics

CLASSES = {Kind.COUNTER: Counter, Kind.GAUGE: Gauge, Kind.HISTOGRAM: Histogram}


def make(*roles: str, strict: bool = False) -> Metrics:
    return Metrics(*(roles or ("scheduler",)), instance_id="slot-1", pool="blue", version="9", strict=strict)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def use(metrics: Metrics, metric, **labels: object) -> None:
    match metric.kind:
        case Kind.COUNTER:
            metrics.inc(metric.name, **labels)
        case Kind.GAUGE:
            metrics.set(metric.name, 1, **labels)
        case Kind.HISTOGRAM:
            metrics.observe(metric.name, 1, **labels)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_each_metric_is_exported_with_its_type_and_labels_once_used(metric) -> None:
    metrics = make(*metric.owners)
    given = {label.name: label.values[0] if label.values else "7" for label in metric.given_labels}
    use(metrics, metric, **given)
    families = {family.name: family for family in metrics.registry.collect()}
    family = families[metric.name.removesuffix("_total")]
    assert family.type == metric.kind
    assert family.documentation == metric.meaning
    full = {"scheduler_id": "slot-1", "worker_id": "slot-1", "pool": "blue"} | given
    suffix = "_count" if metric.kind is Kind.HISTOGRAM else ""
    assert value(metrics, metric.name + suffix, **{name: full[name] for name in metric.label_names}) == 1


def test_nothing_is_exported_that_the_table_does_not_declare_but_the_process_metrics() -> None:
    metrics = make(*Role)
    names = {family.name for family in metrics.registry.collect() if not family.name.startswith("process_")}
    assert names == {name.removesuffix("_total") for name in METRICS}


def test_a_gauge_that_nobody_has_set_has_no_value() -> None:
    """0 is a value: of overdue jobs it would say that all is well."""
    metrics = make("projector")
    assert value(metrics, "jobledger_overdue_jobs") is None
    assert b"\njobledger_overdue_jobs " not in metrics.render()[0]
    metrics.set("jobledger_overdue_jobs", 0)
    assert value(metrics, "jobledger_overdue_jobs") == 0
    metrics.drop("jobledger_overdue_jobs")
    assert value(metrics, "jobledger_overdue_jobs") is None
    metrics.set("jobledger_overdue_jobs", 3)
    assert value(metrics, "jobledger_overdue_jobs") == 3


def test_an_undeclared_name_a_foreign_role_and_wrong_labels_raise() -> None:
    metrics = make("worker")
    with pytest.raises(UndeclaredError, match="not declared; add it"):
        metrics.inc("made_up_total")
    with pytest.raises(UndeclaredError, match="belongs to scheduler"):
        metrics.inc("jobs_dispatched_total")
    for labels in ({}, {"job": "x"}, {"status": "SUCCESS", "job_id": "x"}):
        with pytest.raises(UndeclaredError, match="takes the labels"):
            metrics.inc("worker_tasks_completed_total", **labels)


def test_a_method_that_does_not_fit_the_kind_raises() -> None:
    with pytest.raises(TypeError, match="allows inc only"):
        make().set("jobs_dispatched_total", 3)


def test_counters_without_open_labels_start_at_zero_and_gauges_without_value_have_no_series() -> None:
    metrics = make()
    assert value(metrics, "executions_completed_total", status="LOST") == 0
    assert value(metrics, "scheduler_db_connection_errors_total", scheduler_id="slot-1") == 0
    assert value(metrics, "scheduler_heartbeat_timestamp", scheduler_id="slot-1") is None


def test_series_go_away_with_their_partition_and_no_others() -> None:
    metrics = make()
    for partition in (1, 2):
        metrics.set("queue_depth", 5, queue_name="a", partition=partition)
        metrics.set("jobledger_partition_served", 1, partition=partition)
    metrics.drop_matching(partition=1)
    assert value(metrics, "queue_depth", queue_name="a", partition="1") is None
    assert value(metrics, "jobledger_partition_served", partition="1") is None
    assert value(metrics, "queue_depth", queue_name="a", partition="2") == 5
    metrics.drop("queue_depth", queue_name="a", partition=2)
    metrics.drop("queue_depth", queue_name="a", partition=2)
    assert value(metrics, "queue_depth", queue_name="a", partition="2") is None
    metrics.set("queue_depth", 6, queue_name="a", partition=1)
    assert value(metrics, "queue_depth", queue_name="a", partition="1") == 6


def test_drop_matching_can_be_kept_to_some_metrics() -> None:
    metrics = make()
    metrics.inc("queue_messages_enqueued_total", queue_name="a")
    metrics.set("queue_message_age_seconds", 3, queue_name="a")
    metrics.drop_matching(["queue_message_age_seconds"], queue_name="a")
    assert value(metrics, "queue_message_age_seconds", queue_name="a") is None
    assert value(metrics, "queue_messages_enqueued_total", queue_name="a") == 1
    with pytest.raises(UndeclaredError):
        metrics.drop_matching(job_id="x")


def test_counts_beyond_the_bound_add_up_in_other_and_lose_nothing() -> None:
    metrics = make()
    for number in range(1005):
        metrics.inc("queue_messages_enqueued_total", queue_name=f"q{number}")
        metrics.inc("queue_messages_enqueued_total", queue_name=f"q{number}")
    assert value(metrics, "queue_messages_enqueued_total", queue_name="q999") == 2
    assert value(metrics, "queue_messages_enqueued_total", queue_name="q1000") is None
    assert value(metrics, "queue_messages_enqueued_total", queue_name="_other") == 10


def test_gauges_beyond_the_bound_are_summed_or_their_maximum_taken_and_can_be_dropped() -> None:
    metrics = make()
    for number in range(1003):
        metrics.set("queue_message_age_seconds", number, queue_name=f"q{number}")
    metrics.set("queue_message_age_seconds", 1, queue_name="q1002")
    assert value(metrics, "queue_message_age_seconds", queue_name="_other") == 1001
    for number in range(1000, 1003):
        metrics.drop("queue_message_age_seconds", queue_name=f"q{number}")
    assert value(metrics, "queue_message_age_seconds", queue_name="_other") is None
    for number in range(4096 + 3):
        metrics.set("queue_depth", 2, queue_name=f"q{number}", partition=1)
    assert value(metrics, "queue_depth", queue_name="_other", partition="1") == 6
    metrics.drop_matching(partition=1)
    assert value(metrics, "queue_depth", queue_name="_other", partition="1") is None


def test_a_value_outside_a_closed_set_becomes_other_and_raises_where_strict() -> None:
    metrics = make()
    metrics.inc("executions_completed_total", status="EXPLODED")
    assert value(metrics, "executions_completed_total", status="_other") == 1
    with pytest.raises(UndeclaredError, match="status is one of"):
        make(strict=True).inc("executions_completed_total", status="EXPLODED")


def test_a_bound_series_is_the_series() -> None:
    metrics = make()
    bound = metrics.bind("queue_messages_enqueued_total", queue_name="a")
    bound.inc()
    bound.inc(2)
    assert value(metrics, "queue_messages_enqueued_total", queue_name="a") == 3


def test_exemplars_are_shown_to_those_who_ask_for_openmetrics() -> None:
    metrics = make()
    metrics.observe("scheduling_latency_seconds", 0.2, exemplar_trace_id="ab" * 16)
    body, kind = metrics.render("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert b'trace_id="' + b"ab" * 16 in body
    assert list(text_string_to_metric_families(body.decode())), "the text follows the OpenMetrics grammar"
    body, kind = metrics.render("")
    assert kind.startswith("text/plain")
    assert b"trace_id" not in body
    assert b"_created" not in body


def test_the_multiprocess_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    with pytest.raises(ValueError, match="unset it"):
        make()
