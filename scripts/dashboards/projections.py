"""The read models: how far they are behind the log, and how fast they follow."""

from __future__ import annotations

from expressions import per_second
from panels import Page, Panel

_LAG = (
    Panel(
        "Events behind",
        "short",
        {"partition {{partition}}": "max by (partition) (jobledger_projection_lag_events)"},
        "Events committed to the log and not yet in the read models.",
    ),
    Panel(
        "Seconds behind",
        "s",
        {"partition {{partition}}": "max by (partition) (jobledger_projection_lag_seconds)"},
        "Age of the oldest event that is not yet in the read models.",
        warn_over=5,
        bad_over=60,
    ),
    Panel(
        "Events applied",
        "ops",
        {"applied": per_second("jobledger_projected_events_total")},
        "Per second.",
    ),
)

_STATE = (
    Panel(
        "Position",
        "short",
        {"partition {{partition}}": "max by (partition) (jobledger_projection_position)"},
        "`seq` of the last event applied.",
    ),
    Panel(
        "Events set aside",
        "short",
        {"partition {{partition}}": "max by (partition) (jobledger_projection_set_aside_events)"},
        "Events that change no row, since a stream that had ended began a second time. Each wants a person.",
        bad_over=1,
    ),
    Panel(
        "Errors of database connections",
        "ops",
        {"{{scheduler_id}}": per_second("scheduler_db_connection_errors_total", by="scheduler_id")},
        "Failed attempts and lost connections of the projectors.",
    ),
)

PAGE = Page(
    "jobledger-projections",
    "Jobledger / Projections",
    "The read models against the log.",
    {"Lag": _LAG, "State": _STATE},
)
