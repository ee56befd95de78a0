"""Everything that Jobledger emits, declared once: `METRICS`, `LOG_EVENTS`, `SPANS`.

`python -m jobledger.telemetry.catalogue` prints the reference page made from these tables.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from jobledger.telemetry import log_table, metric_table, span_table
from jobledger.telemetry.declarations import (
    ALL_ROLES,
    OTHER,
    Kind,
    Label,
    LogEvent,
    Metric,
    Overflow,
    Role,
    SpanName,
    UndeclaredError,
)
from jobledger.telemetry.scenarios import SCENARIOS

__all__ = [
    "ALL_ROLES",
    "DECLARED",
    "LOG_EVENTS",
    "METRICS",
    "OTHER",
    "SPANS",
    "Kind",
    "Label",
    "LogEvent",
    "Metric",
    "Overflow",
    "Role",
    "SpanName",
    "UndeclaredError",
    "reference_page",
]

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *metric_table.SCHEDULER_METRICS,
        *metric_table.JOB_METRICS,
        *metric_table.QUEUE_METRICS,
        *metric_table.WORKER_METRICS,
        *metric_table.API_METRICS,
        *metric_table.OWN_METRICS,
    )
}

LOG_EVENTS: dict[str, LogEvent] = {
    event.name: event
    for event in (
        *log_table.PROCESS_EVENTS,
        *log_table.SCHEDULER_EVENTS,
        *log_table.WORKER_EVENTS,
        *log_table.PROJECTOR_EVENTS,
        *log_table.API_EVENTS,
    )
}

SPANS: dict[str, SpanName] = {span.name: span for span in span_table.SPANS}

DECLARED: dict[str, Metric | LogEvent | SpanName] = {**METRICS, **LOG_EVENTS, **SPANS}
"""All rows by name; a test sees to it that no two have the same."""

_HEAD = """\
# Telemetry reference

This page is generated from the tables in `telemetry/` (`python -m jobledger.telemetry.catalogue`); a test compares
the two.
Every role serves `/metrics`, `/health/live`, `/health/ready` and `/health/status` and writes JSON log lines to stdout.
Beside the metrics below each role exports prometheus_client's `process_*` metrics.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or "-"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return [*lines, ""]


def _roles(owners: tuple[Role, ...]) -> str:
    return "all" if owners == ALL_ROLES else ", ".join(owners)


def _metric_row(metric: Metric) -> list[str]:
    labels = ", ".join(metric.label_names)
    return [
        f"`{metric.name}`",
        metric.kind,
        metric.unit,
        labels,
        _roles(metric.owners),
        str(metric.series_bound),
        metric.scenario,
        metric.meaning,
    ]


def _label_rows() -> list[list[str]]:
    labels = {label: None for metric in METRICS.values() for label in metric.labels}
    return [[f"`{label.name}`", _label_values(label)] for label in labels]


def _label_values(label: Label) -> str:
    if label.from_instance:
        return "one: the stable name of the process's slot or pool"
    if label.values:
        return ", ".join(label.values)
    return f"at most {label.bound}" + (", then `_other`" if label.collapses else "")


def _bucket_rows() -> list[list[str]]:
    rows = [metric for metric in METRICS.values() if metric.buckets]
    return [[f"`{metric.name}`", " ".join(f"{bound:g}" for bound in metric.buckets)] for metric in rows]


def reference_page() -> str:
    """The reference page as Markdown."""
    lines = [_HEAD, "## Metrics", ""]
    lines += [
        "`series` is the most label combinations that one process exports; what is beyond goes into `_other`.",
        "",
    ]
    heads = ("name", "kind", "unit", "labels", "roles", "series", "scenario", "meaning")
    lines += _table(heads, map(_metric_row, METRICS.values()))
    lines += ["### Labels", "", *_table(("label", "values"), _label_rows())]
    lines += ["### Buckets (seconds)", "", *_table(("histogram", "upper bounds"), _bucket_rows())]
    lines += ["## Log events", ""]
    lines += [
        "A line has exactly the fields timestamp, level, service, instance_id, trace_id, span_id, event, message,"
        " context; below is what stands in `context`. FATAL means that the process or the partition stops. Times have"
        " the form of `timestamp`; the `error` of a task is the class of its exception, whose text and whose payload no"
        " line holds. `library_log` has the level that the library gave it, `handler_log` that of the handler.",
        "",
    ]
    events = LOG_EVENTS.values()
    lines += _table(
        ("event", "level", "roles", "context", "scenario", "message"),
        ([f"`{e.name}`", e.level, _roles(e.owners), ", ".join(e.fields), e.scenario, e.message] for e in events),
    )
    lines += ["## Spans", "", span_table.INTRODUCTION, ""]
    spans = SPANS.values()
    lines += _table(
        ("span", "roles", "kind", "below", "attributes", "scenario", "meaning"),
        (
            [f"`{s.name}`", _roles(s.owners), s.kind, s.parent, ", ".join(s.attributes), s.scenario, s.meaning]
            for s in spans
        ),
    )
    lines += ["## Scenarios", "", "What has to happen so that a row is emitted; tests let it happen.", ""]
    lines += _table(("scenario", "what happens"), ([name, what] for name, what in SCENARIOS.items()))
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference_page())
