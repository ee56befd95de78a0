"""The queues: what waits, for how long, and what comes and goes."""

from __future__ import annotations

from expressions import per_second
from panels import Page, Panel

_WAITING = (
    Panel(
        "Depth",
        "short",
        {"{{queue_name}}": "sum by (queue_name) (queue_depth)"},
        "Ready tasks that no worker has; QueueBacklogGrowing is raised over 10,000.",
        warn_over=5_000,
        bad_over=10_000,
    ),
    Panel(
        "Depth by priority",
        "short",
        {"{{queue_name}} {{priority}}": "sum by (queue_name, priority) (queue_depth_by_priority)"},
        "5 goes first.",
    ),
    Panel(
        "Age of the oldest",
        "s",
        {"{{queue_name}}": "max by (queue_name) (queue_message_age_seconds)"},
        "Since the oldest ready task became ready.",
    ),
)


def _flow(title: str, counter: str, meaning: str) -> Panel:
    return Panel(title, "ops", {"{{queue_name}}": per_second(counter, by="queue_name")}, meaning, width=6)


_FLOW = (
    _flow("Enqueued", "queue_messages_enqueued_total", "Tasks that became ready."),
    _flow("Dequeued", "queue_messages_dequeued_total", "Assignments committed."),
    _flow("Acknowledged", "queue_messages_acknowledged_total", "Assignments that ended with an accepted report."),
    _flow("Rejected", "queue_messages_rejected_total", "Refused, lease lost, or cancelled before the start."),
)

_HEALTH = (
    Panel(
        "Commands that wait",
        "short",
        {"{{queue_name}}": "sum by (queue_name) (queue_consumer_lag_messages)"},
        "Committed to the queue's partitions and not in the owner's checkpoint.",
    ),
    Panel(
        "Healthy partitions",
        "short",
        {"{{queue_name}}": "sum by (queue_name) (queue_partitions_healthy)"},
        "With a leader, enough replicas in sync and an owner that serves.",
    ),
    Panel(
        "Replication lag",
        "bytes",
        {"{{queue_name}}": "max by (queue_name) (queue_replication_lag_bytes)"},
        "How far the smallest replica is behind its leader; 0 at replication factor 1; no line if it can't be read.",
    ),
)

PAGE = Page(
    "jobledger-queues",
    "Jobledger / Queues",
    "Depth, age, flow and health of the queues.",
    {"Waiting": _WAITING, "Flow": _FLOW, "Health": _HEALTH},
)
