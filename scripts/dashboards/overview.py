"""The page to look at first: the four golden signals, with their change in an hour and what they are a share of."""

from __future__ import annotations

from expressions import COUNTED_ENDS, ENDED_BADLY, change, per_second, quantile, ratio
from panels import Page, Panel, Shape

_LATENCY = quantile(0.99, "scheduling_latency_seconds", window="5m")
_TRAFFIC = per_second("jobs_dispatched_total", window="5m")
_FAILED = per_second("executions_completed_total", labels=ENDED_BADLY, window="5m")
_ENDED = per_second("executions_completed_total", labels=COUNTED_ENDS, window="5m")
_ERRORS = ratio(_FAILED, _ENDED)
_DEPTH_LIMIT = 10_000
"""Where QueueBacklogGrowing begins."""
_DEPTH = "sum (queue_depth) or vector(0)"
_BUSY = "sum (worker_concurrent_executions)"
_SLOTS = "sum (worker_max_concurrent_executions)"
_CONNECTIONS = "max (jobledger_database_connections)"
_CONNECTION_LIMIT = "max (jobledger_database_connections_limit)"


def _signal(
    title: str, unit: str, expression: str, meaning: str, warn_over: float | None = None, bad_over: float | None = None
) -> Panel:
    return Panel(
        title,
        unit,
        {"now": expression, "against an hour ago": change(expression)},
        meaning,
        Shape.NUMBERS,
        width=8,
        height=5,
        decimals=2,
        warn_over=warn_over,
        bad_over=bad_over,
    )


_SIGNALS = (
    _signal(
        "Latency (P99)",
        "s",
        _LATENCY,
        "From due to the first assignment committed, of the last five minutes; all waiting but pause is in it.",
        warn_over=1,
        bad_over=60,
    ),
    _signal("Traffic", "ops", _TRAFFIC, "Executions that began to be worked on per second, of the last five minutes."),
    _signal(
        "Error rate",
        "percentunit",
        _ERRORS,
        "Executions that ended FAILED, TIMEOUT or LOST of all that ended, CANCELLED left out. The objective is 0.1 %.",
        warn_over=0.001,
        bad_over=0.05,
    ),
)

_SATURATION = (
    Panel(
        "Queue depth",
        "short",
        {"waiting": _DEPTH, "alarm at": f"vector({_DEPTH_LIMIT})"},
        "Ready tasks that no worker has, over all queues.",
        Shape.NUMBERS,
        width=5,
        height=5,
    ),
    Panel(
        "Queue depth of its alarm",
        "percentunit",
        {"share": f"({_DEPTH}) / {_DEPTH_LIMIT}"},
        f"1 is {_DEPTH_LIMIT} ready tasks; an alarm is raised for a single queue beyond that.",
        Shape.GAUGE,
        width=3,
        height=5,
        warn_over=0.5,
        bad_over=1,
        maximum=1,
    ),
    Panel(
        "Workers",
        "short",
        {"busy slots": _BUSY, "slots": _SLOTS},
        "Slots in which handlers run, of all slots of all live workers.",
        Shape.NUMBERS,
        width=5,
        height=5,
    ),
    Panel(
        "Workers, share",
        "percentunit",
        {"share": ratio(_BUSY, _SLOTS)},
        "At 100 % work waits for workers.",
        Shape.GAUGE,
        width=3,
        height=5,
        warn_over=0.8,
        bad_over=0.95,
        maximum=1,
    ),
    Panel(
        "Database connections",
        "short",
        {"in use": _CONNECTIONS, "allowed": _CONNECTION_LIMIT},
        "Client connections of Postgres, of those it allows to anybody but its superuser.",
        Shape.NUMBERS,
        width=5,
        height=5,
    ),
    Panel(
        "Database connections, share",
        "percentunit",
        {"share": ratio(_CONNECTIONS, _CONNECTION_LIMIT)},
        "DatabaseConnectionExhausted is raised over 90 %.",
        Shape.GAUGE,
        width=3,
        height=5,
        warn_over=0.7,
        bad_over=0.9,
        maximum=1,
    ),
)

_TREND = (
    Panel(
        "Jobs an hour",
        "short",
        {"ended {{status}}": "sum by (status) (increase(executions_completed_total[1h]))"},
        "Executions that ended in the hour before each point, by how they ended.",
        width=24,
        height=9,
    ),
)

PAGE = Page(
    "jobledger-overview",
    "Jobledger / Overview",
    "The golden signals of the whole cell.",
    {"Golden signals": _SIGNALS, "Saturation": _SATURATION, "Jobs trend (24 h)": _TREND},
    span="now-24h",
)
